"""What a producer asks for: a job over ids, a filter or a person, with one reason for all of it."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)

MAX_IDS = 100_000
"""Ids in one JSON request; more go into a file."""
MAX_FILE_IDS = 1_000_000
"""Rows in one file."""

ReasonName = Literal["not_required", "user_deactivated", "learner_declined", "enrolment_error"]
Id = Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]
Note = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


def _aware(value: datetime | date) -> datetime | date:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time needs its offset, such as 2026-03-01T08:00:00Z; or give a date alone")
    return value


When = Annotated[datetime | date, AfterValidator(_aware)]
"""A time with its offset (RFC 3339), or a date alone: the end of that day in the organisation's time zone."""


class Filter(BaseModel):
    """Enrolments by what they are; conditions add up. Without `status`: all neither ended nor withdrawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series_id: Id | None = None
    pathway_id: Id | None = None
    status: Annotated[list[str], Field(min_length=1, max_length=20)] | None = None
    learner_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
    enrolled_before: datetime | None = None
    enrolled_after: datetime | None = None

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a filter needs at least one condition")
        for name in ("enrolled_before", "enrolled_after"):
            _aware(getattr(self, name) or date.min)
        return self


class JobRequest(BaseModel):
    """One bulk job, one reason (rule 5); exactly one of `enrolment_ids`, `filter`, `learner_external_id`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: ReasonName
    source: Literal["bulk", "admin", "correction"] = "bulk"
    note: Note | None = None
    effective_at: When | None = None
    enrolment_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)] | None = None
    filter: Filter | None = None
    learner_external_id: ExternalId | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_reason(cls, data: Any) -> Any:
        ids = data.get("enrolment_ids") if isinstance(data, dict) else None
        if isinstance(ids, list) and any(isinstance(item, dict) for item in ids):
            raise ValueError("one bulk job, one reason: enrolment_ids takes ids alone, not rows (rule 5)")
        return data

    @model_validator(mode="after")
    def _one_selection(self) -> Self:
        given = [self.enrolment_ids, self.filter, self.learner_external_id]
        if sum(item is not None for item in given) != 1:
            raise ValueError("give exactly one of enrolment_ids, filter, learner_external_id")
        if self.source == "correction" and self.reason != "enrolment_error":
            raise ValueError("source correction implies reason enrolment_error (rule 1)")
        return self


class FileRequest(BaseModel):
    """What goes with a file of ids: the same as for a job, without the selection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: ReasonName
    source: Literal["bulk", "admin", "correction"] = "bulk"
    note: Note | None = None
    effective_at: When | None = None

    @model_validator(mode="after")
    def _implied(self) -> Self:
        if self.source == "correction" and self.reason != "enrolment_error":
            raise ValueError("source correction implies reason enrolment_error (rule 1)")
        return self
