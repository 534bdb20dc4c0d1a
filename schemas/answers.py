"""What producers get back: jobs, dead letters, pages, and problems (RFC 9457)."""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Job(BaseModel):
    """A job with its counts; `outcomes` counts what was decided, `in_flight` what was not yet."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    kind: str
    state: str
    reason: str | None
    source: str
    requested_by: str
    note: str | None
    learner_external_id: str | None
    created_at: datetime
    effective_at: datetime
    finished_at: datetime | None
    accepted: int
    duplicates: int
    outcomes: dict[str, int]
    in_flight: int
    open_dead_letters: int
    idempotency_key: str
    reinstates: int | None = Field(None, description="The job that this one takes back.")
    reinstated: int = Field(0, description="How many of this job's withdrawals were taken back.")


class Outcome(BaseModel):
    """What happened to one enrolment of a job."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    enrolment_id: int
    outcome: str
    prior_status: str | None
    pathway_id: int | None
    dead_letter_id: int | None
    decided_at: datetime | None


class DeadLetter(BaseModel):
    """Something that needs a person, with what is known of it and what can be done."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    code: str
    state: str
    job_id: int | None
    job_ids: list[int]
    enrolment_id: int | None
    learner_external_id: str | None
    count: int
    fingerprint: str
    message: str
    error_class: str | None
    evidence: dict[str, Any]
    remedies: dict[str, str]
    assignee: str | None
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    remedy: str | None
    attempts: list[dict[str, Any]]
    notes: list[dict[str, Any]]


class Receipt(BaseModel):
    """What became of an event that an HR system sent.

    `accepted`, `scheduled`, `held` (each with its job), `noted` (the source's policy withdraws nothing),
    `reactivated`, or `ignored` (an older event, or a type that is of no concern here).
    """

    receipt_id: str
    job_id: int | None = None
    status: str


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` begins the next one, None on the last."""

    items: list[T]
    next_cursor: str | None


class FieldFault(BaseModel):
    """One field that was refused."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457, `application/problem+json`); `type` is stable, `detail` says what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:withdrawals:problem:not_found"])
    title: str
    status: int
    detail: str
    errors: list[FieldFault] | None = None
