"""The rules of the domain, quoted and held against every kind of enrolment; no server is needed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import OUTCOMES, STATUSES, Outcome, Phase
from worker.rules import (
    ACTIVE,
    CLEAN,
    ENDED,
    NEEDS_SUPPORT,
    WITHDRAWN,
    Enrolment,
    decide,
)

SEEN = [*ACTIVE, *ENDED, WITHDRAWN, "on_hold", ""]
enrolments = st.builds(
    Enrolment,
    organisation_id=st.integers(1, 2),
    status=st.sampled_from(SEEN) | st.text("aeinoprst_ ", max_size=20),
    pathway_id=st.none() | st.integers(1, 5),
)


@given(st.none() | enrolments, st.booleans(), st.booleans())
def test_only_an_active_enrolment_of_the_own_organisation_is_ever_withdrawn(
    enrolment: Enrolment | None, superseded: bool, override: bool
) -> None:
    """Rule 2: "Only an active enrolment can be withdrawn"; tenants: another organisation's does not exist."""
    if decide(enrolment, organisation_id=1, superseded=superseded, override=override) is Outcome.WITHDRAWN:
        assert enrolment is not None
        assert enrolment.status in ACTIVE
        assert enrolment.organisation_id == 1
        assert not superseded
        assert enrolment.pathway_id is None or override


@given(enrolments, st.booleans(), st.booleans())
def test_a_status_on_neither_list_is_shown_to_support_and_never_guessed(
    enrolment: Enrolment, superseded: bool, override: bool
) -> None:
    """Rule 2: "A status that is on neither list is refused and shown to support, never guessed."."""
    if enrolment.status not in (*ACTIVE, *ENDED, WITHDRAWN):
        outcome = decide(enrolment, organisation_id=enrolment.organisation_id, superseded=superseded, override=override)
        assert outcome is (Outcome.SUPERSEDED if superseded else Outcome.UNKNOWN_STATUS)


def test_the_checks_come_in_the_order_of_rule_9() -> None:
    """Rule 9: "not found, already withdrawn, ended, superseded, unknown status, pathway-owned, withdraw"."""
    seen = [
        decide(None, organisation_id=1, superseded=True),
        decide(Enrolment(1, WITHDRAWN, 7), organisation_id=1, superseded=True),
        decide(Enrolment(1, "mastered", 7), organisation_id=1, superseded=True),
        decide(Enrolment(1, "strange", 7), organisation_id=1, superseded=True),
        decide(Enrolment(1, "strange", 7), organisation_id=1),
        decide(Enrolment(1, "in_progress", 7), organisation_id=1),
        decide(Enrolment(1, "in_progress", None), organisation_id=1),
    ]
    assert seen == [
        Outcome.NOT_FOUND,
        Outcome.ALREADY_WITHDRAWN,
        Outcome.ENROLMENT_ENDED,
        Outcome.SUPERSEDED,
        Outcome.UNKNOWN_STATUS,
        Outcome.PATHWAY_OWNED,
        Outcome.WITHDRAWN,
    ]


def test_already_withdrawn_is_success_and_refusals_are_not() -> None:
    """Rule 9: "Already withdrawn is success"; rule 6: pathway-owned goes to support."""
    assert {Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN, Outcome.REINSTATED} == CLEAN
    assert not CLEAN & NEEDS_SUPPORT


def test_every_known_status_is_exactly_one_of_active_ended_and_withdrawn() -> None:
    """Rule 2: the two lists; overdue is not a status."""
    assert {*ACTIVE, *ENDED, WITHDRAWN} == set(STATUSES)
    assert len([*ACTIVE, *ENDED, WITHDRAWN]) == len(STATUSES)
    assert set(ACTIVE) == {"waiting_to_start", "not_signed_in", "no_attempts", "in_progress"}
    assert set(ENDED) == {"mastered", "incomplete"}
    assert STATUSES[WITHDRAWN].phase is Phase.WITHDRAWN


def test_an_ended_enrolment_stays_as_it_is_whatever_a_job_may_override() -> None:
    """Rule 2: "An ended one (`mastered`, `incomplete`) is never touched"."""
    for status, pathway, superseded, override in itertools.product(ENDED, (None, 7), (False, True), (False, True)):
        found = decide(Enrolment(1, status, pathway), organisation_id=1, superseded=superseded, override=override)
        assert found is Outcome.ENROLMENT_ENDED


@pytest.mark.parametrize(
    ("override", "override_pathway", "expected"),
    [
        (False, None, Outcome.PATHWAY_OWNED),
        (False, 7, Outcome.PATHWAY_OWNED),
        (True, None, Outcome.WITHDRAWN),
        (True, 7, Outcome.WITHDRAWN),
        (True, 8, Outcome.PATHWAY_OWNED),
    ],
)
def test_an_override_for_one_pathway_reaches_only_what_that_pathway_owns(
    override: bool, override_pathway: int | None, expected: Outcome
) -> None:
    """Rule 6: "An enrolment owned by a Learning Pathway is not withdrawn directly"; only an approver overrides."""
    owned, free = Enrolment(1, "in_progress", 7), Enrolment(1, "in_progress", None)
    found = decide(owned, organisation_id=1, override=override, override_pathway=override_pathway)
    assert found is expected
    assert decide(free, organisation_id=1, override=override, override_pathway=override_pathway) is Outcome.WITHDRAWN


def test_an_outcome_that_needs_support_has_no_clean_end() -> None:
    without_an_answer = {Outcome.PATHWAY_OWNED, Outcome.UNKNOWN_STATUS, Outcome.NOT_FOUND, Outcome.FAILED}
    assert without_an_answer | {Outcome.PROTECTED} == NEEDS_SUPPORT
    assert set(OUTCOMES) == set(Outcome)
