"""What a producer may ask for: each rule of the request models, by what they accept and what they refuse."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.dead_letters import LetterFilter, Resolution
from schemas.events import HrEvent, PersonEvent
from schemas.jobs import FileRequest, Filter, JobRequest


def refusal(model: Any, **fields: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        model(**fields)
    return str(refused.value)


@pytest.mark.parametrize(
    "selected",
    [
        {},
        {"enrolment_ids": [1], "learner_external_id": "anna"},
        {"enrolment_ids": [1], "filter": {"series_id": 1}},
        {"enrolment_ids": [1], "filter": {"series_id": 1}, "learner_external_id": "anna"},
    ],
)
def test_a_job_has_exactly_one_selection(selected: dict[str, Any]) -> None:
    assert "exactly one of" in refusal(JobRequest, reason="not_required", **selected)


def test_a_reason_for_each_enrolment_is_refused() -> None:
    """Rule 5: "One bulk job, one reason for every enrolment in it"."""
    rows = [{"id": 1, "reason": "not_required"}]
    assert "one reason" in refusal(JobRequest, reason="not_required", enrolment_ids=rows)


@pytest.mark.parametrize("reason", ["", "Not_Required", "other", None, 1])
def test_the_list_of_reasons_is_closed(reason: Any) -> None:
    """Rule 1: "Reasons are a closed list"."""
    assert "reason" in refusal(JobRequest, reason=reason, enrolment_ids=[1])


def test_a_correction_implies_its_reason_and_an_hr_job_comes_from_hr_alone() -> None:
    """Rule 1: "source `correction` implies `enrolment_error`"; nobody else can claim to be the HR system."""
    assert "rule 1" in refusal(FileRequest, reason="not_required", source="correction")
    assert FileRequest(reason="enrolment_error", source="correction").source == "correction"
    for source in ("hr", "support"):
        assert "source" in refusal(JobRequest, reason="user_deactivated", source=source, enrolment_ids=[1])


@pytest.mark.parametrize("ids", [[], [0], [-1], [2**63], ["1"], [1.0], [True], [None], list(range(1, 100_002))])
def test_ids_are_positive_whole_numbers_up_to_a_hundred_thousand(ids: list[Any]) -> None:
    assert "enrolment_ids" in refusal(JobRequest, reason="not_required", enrolment_ids=ids)


def test_a_filter_needs_a_condition_and_knows_its_own_alone() -> None:
    assert "at least one condition" in refusal(Filter)
    assert "serie" in refusal(Filter, serie=1)
    assert refusal(Filter, status=[])
    assert Filter(pathway_id=1).status is None


@pytest.mark.parametrize(
    "when", ["20260301", "1", 1, 1.5, True, "2026-03-01T08:00:00", "2026-3-1", "tomorrow", "0001-01-01T00:00:00+14:00"]
)
def test_a_time_is_text_with_its_offset_or_a_date(when: Any) -> None:
    assert "effective_at" in refusal(FileRequest, reason="not_required", effective_at=when)


def test_a_date_alone_stays_a_date_until_the_organisations_time_zone_is_known() -> None:
    assert FileRequest(reason="not_required", effective_at="2026-03-01").effective_at == date(2026, 3, 1)
    at = FileRequest(reason="not_required", effective_at="2026-03-01T09:00:00+01:00").effective_at
    assert at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert "not a date alone" in refusal(Filter, enrolled_before="2026-03-01")


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 2001])
def test_a_note_is_text_that_postgresql_keeps(text: str) -> None:
    assert "note" in refusal(FileRequest, reason="not_required", note=text)


def test_a_persons_id_is_kept_as_it_is_and_a_blank_one_is_refused() -> None:
    assert JobRequest(reason="not_required", learner_external_id=" anna ").learner_external_id == " anna "
    assert "learner_external_id" in refusal(JobRequest, reason="not_required", learner_external_id="  ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "burnt"}, {"state": "closed"}, {"job_id": 0}, {"job_id": 2**63}, {"source": "web"},
        {"fingerprint": ""}, {"assignee": "x" * 256}, {"older_than": "2026-03-01"}, {"changed": "perhaps"},
        {"overdu": True},
    ],
)  # fmt: skip
def test_the_filter_of_dead_letters_refuses_what_it_does_not_know(wrong: dict[str, Any]) -> None:
    assert next(iter(wrong)) in refusal(LetterFilter, **wrong)


def test_a_resolution_says_why() -> None:
    assert "note" in refusal(Resolution, remedy="keep", note=" ")
    assert Resolution(remedy="keep", note=" agreed ").note == "agreed"


def test_an_hr_event_says_the_same_as_the_services_own() -> None:
    event = HrEvent.model_validate({**HrEvent.EXAMPLE, "unknown": 1, "data": {**HrEvent.EXAMPLE["data"], "name": "x"}})
    assert event.as_person_event() == PersonEvent(
        type="user.deactivated",
        external_id="4711",
        occurred_at=datetime(2026, 3, 1, 8, tzinfo=UTC),
        effective_at=date(2026, 3, 31),
    )
    assert event.as_person_event().deactivates
    assert not PersonEvent(type="user.reactivated", external_id="4711").deactivates


@pytest.mark.parametrize(
    "wrong", [{"type": "user.created"}, {"external_id": ""}, {"sequence": 2**63}, {"sequence": "1"}]
)
def test_an_event_that_is_not_understood_is_refused(wrong: dict[str, Any]) -> None:
    fields = {"type": "user.deactivated", "external_id": "anna", **wrong}
    assert next(iter(wrong)) in refusal(PersonEvent, **fields)


@pytest.mark.parametrize("model", [JobRequest, FileRequest, Filter, Resolution])
def test_a_request_with_very_many_fields_gets_one_error(model: Any) -> None:
    """An error for each took seconds, in which nobody else was answered."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate({f"field {n}": 1 for n in range(100_000)})
    assert refused.value.error_count() == 1
