"""Every code has one label and one tone, wherever it is shown."""

import pytest

from schemas.catalogue import JOB_STATES, LETTER_CODES, LETTER_STATES, OUTCOMES, REASONS, SOURCES, STATUSES, Outcome
from worker.web.console import words
from worker.web.console.languages import language

LISTS = (REASONS, SOURCES, STATUSES, OUTCOMES, JOB_STATES, LETTER_CODES, LETTER_STATES)


def test_a_code_in_two_lists_has_one_label_and_one_tone() -> None:
    for entries in LISTS:
        for code, entry in entries.items():
            assert (words.word(code), words.tone(code)) == (entry.label, entry.tone), code


def test_a_code_that_nobody_labelled_is_shown_without_its_underscores() -> None:
    assert words.word("seen_elsewhere") == "Seen elsewhere"
    assert words.tone("seen_elsewhere") == "quiet"


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_is_explained(outcome: Outcome) -> None:
    assert words.sentence(outcome) == OUTCOMES[outcome].sentence


def test_a_code_inside_a_sentence_becomes_its_label() -> None:
    assert (
        words.plain("now in_progress, not pathway_owned_by", language("en")) == "now In Progress, not pathway_owned_by"
    )
