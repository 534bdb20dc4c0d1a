"""What a producer asks for: a job over ids, a filter or a person, with one reason for all of it."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)

from .catalogue import REASONS, describe

MAX_IDS = 100_000
"""Ids in one JSON request; more go into a file."""
MAX_FILE_IDS = 1_000_000
"""Rows in one file."""


def _storable(value: str) -> str:
    """PostgreSQL's text holds neither NUL nor half a surrogate pair."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("has a character that cannot be kept (NUL, or half of a surrogate pair)")
    return value


Storable = AfterValidator(_storable)
"""Text that PostgreSQL takes."""

ReasonName = Literal["not_required", "user_deactivated", "learner_declined", "enrolment_error"]
Id = Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return value


ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable, AfterValidator(_not_blank)]
"""A person's id on the platform, character by character: with a space at its end it is another person's."""
Note = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True), Storable]


_EXAMPLE = "such as 2026-03-01T08:00:00Z; or give a date alone"


def _rfc3339(value: Any) -> Any:
    """Text as RFC 3339 has it: pydantic alone reads `20260301` as seconds since 1970, and a date as its midnight."""
    if not isinstance(value, str):
        if isinstance(value, date):  # a datetime is one
            return value
        raise ValueError(f"a time is text, {_EXAMPLE}")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return date.fromisoformat(value)
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError(f"not a time, {_EXAMPLE}")
    return value


def _aware(value: datetime | date) -> datetime | date:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"a time needs its offset, {_EXAMPLE}")
        try:
            value.astimezone(UTC)
        except OverflowError:
            raise ValueError("that time is too far away") from None
    return value


When = Annotated[datetime | date, AfterValidator(_aware), BeforeValidator(_rfc3339)]
"""A time with its offset (RFC 3339), or a date alone: the end of that day in the organisation's time zone."""


def _not_a_date(value: Any) -> Any:
    if not isinstance(value := _rfc3339(value), datetime | str):
        raise ValueError("a time is needed, such as 2026-03-01T08:00:00Z, not a date alone")
    return value


Moment = Annotated[datetime, AfterValidator(_aware), BeforeValidator(_not_a_date)]
"""A time with its offset (RFC 3339)."""


_MOST_FIELDS = 100
"""No request has so many; each unknown one would be named in an error of its own."""


class Request(BaseModel):
    """What is asked for, with no field that is not known."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > _MOST_FIELDS:
            raise ValueError(f"has {len(data):,} fields; it can have {len(cls.model_fields)}")
        return data


class Filter(Request):
    """Enrolments by what they are; conditions add up. Without `status`: all neither ended nor withdrawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series_id: Id | None = None
    pathway_id: Id | None = None
    status: Annotated[list[Annotated[str, Storable]], Field(min_length=1, max_length=20)] | None = None
    learner_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
    enrolled_before: Moment | None = None
    enrolled_after: Moment | None = None

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a filter needs at least one condition")
        return self


class FileRequest(Request):
    """What goes with a file of ids: the same as for a job, without the selection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[ReasonName, Field(description=describe(REASONS))]
    source: Literal["bulk", "admin", "correction"] = "bulk"
    note: Note | None = None
    effective_at: When | None = None
    plan_hash: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = None
    """Of the plan that was looked at; refused when it does not fit any more."""

    @model_validator(mode="after")
    def _implied(self) -> Self:
        if self.source == "correction" and self.reason != "enrolment_error":
            raise ValueError("source correction implies reason enrolment_error (rule 1)")
        return self


class FileOptions(Request):
    """How a file is taken; the same for its plan and its job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: UUID | None = None
    """A file that was planned before: it is sent once."""
    batch: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """A job of an earlier file: what it and the files after it have taken is not taken again."""
    faults: Literal["refuse", "leave_out"] = "refuse"
    """Whether rows with a fault refuse the file, or are left out and given back."""


class JobRequest(FileRequest):
    """One bulk job, one reason (rule 5); exactly one of `enrolment_ids`, `filter`, `learner_external_id`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"reason": "not_required", "enrolment_ids": [1, 2], "note": "the course was replaced"},
                {"reason": "learner_declined", "learner_external_id": "4711", "source": "admin"},
                {"reason": "not_required", "filter": {"series_id": 7, "status": ["not_signed_in"]}},
                {"reason": "enrolment_error", "source": "correction", "enrolment_ids": [3]},
            ]
        },
    )

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
        return self
