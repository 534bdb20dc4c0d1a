"""The catalogue: every code has its words, and the API's types name the same codes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args

import pytest

from schemas import catalogue, jobs
from schemas.catalogue import (
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    REASONS,
    SOURCES,
    STATUSES,
    Entry,
    JobState,
    LetterCode,
    LetterState,
    Outcome,
    Reason,
    Source,
    Status,
)
from worker.rules import IMPLIED_REASON

LISTS: list[tuple[type[StrEnum], Mapping[Any, Entry]]] = [
    (Reason, REASONS),
    (Source, SOURCES),
    (Status, STATUSES),
    (Outcome, OUTCOMES),
    (JobState, JOB_STATES),
    (LetterCode, LETTER_CODES),
    (LetterState, LETTER_STATES),
]


@pytest.mark.parametrize(("codes", "entries"), LISTS)
def test_every_code_has_a_label_and_a_sentence_of_its_own(codes: type[StrEnum], entries: Mapping[Any, Entry]) -> None:
    assert list(entries) == list(codes), "in the order of the list"
    for code, entry in entries.items():
        assert code == code.lower()
        assert entry.label[0].isupper()
        assert entry.sentence.endswith(".")
    assert len({entry.label for entry in entries.values()}) == len(entries)
    assert len({entry.sentence for entry in entries.values()}) == len(entries)


def test_the_reasons_are_the_platforms_four_in_its_own_words() -> None:
    """Rule 1: the closed list."""
    assert {str(code): entry.label for code, entry in REASONS.items()} == {
        "not_required": "Enrolment no longer required",
        "user_deactivated": "User Deactivated",
        "learner_declined": "User does not want to complete the enrolment",
        "enrolment_error": "Enrolment Error",
    }


def test_a_source_implies_its_reason() -> None:
    """Rule 1: "Source `hr` implies `user_deactivated`, source `correction` implies `enrolment_error`"."""
    assert IMPLIED_REASON == {"hr": "user_deactivated", "correction": "enrolment_error"}


def test_the_types_of_requests_name_the_codes_of_the_catalogue() -> None:
    assert set(get_args(jobs.ReasonName)) == set(Reason)


def test_the_documentation_has_one_line_for_each_code() -> None:
    lines = catalogue.describe({str(code): entry for code, entry in OUTCOMES.items()}).splitlines()
    assert len(lines) == len(OUTCOMES)
    assert lines[0] == "- `withdrawn`: The record shows Withdrawn. Progress and history stay."
