"""What producers get back: jobs, dead letters, pages, and problems (RFC 9457)."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from .brake import BrakeForecast
from .catalogue import (
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    REASONS,
    RECEIPT_STATUSES,
    SOURCES,
    describe,
)
from .desk import Diagnosis, Event, Recommendation
from .sentences import Sentence

T = TypeVar("T")


class Job(BaseModel):
    """A job with its counts; `outcomes` counts what was decided, `in_flight` what was not yet."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    title: str = Field("", description="What it is about, in a line, with its Series if it is about one alone.")
    kind: str
    state: str = Field(description=describe(JOB_STATES))
    reason: str | None = Field(description=describe(REASONS))
    source: str = Field(description=describe(SOURCES))
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
    held_because: str | None = Field(None, description="While it is held: `brake` or `policy`.")
    held_why: Sentence | None = Field(None, description="While it is held: the reason as a sentence.")
    brake: dict[str, Any] | None = Field(None, description="The figures of the brake that held it.")
    file_name: str | None = Field(None, description="Of the file that it came as.")
    reinstates: int | None = Field(None, description="The job that this one takes back.")
    reinstated: int = Field(0, description="How many of this job's withdrawals were taken back.")
    pruned: bool = Field(False, description="Whether its details are gone: kept for as long as the service is set to.")


class PlanSample(BaseModel):
    """One enrolment of a plan, with what owns or protects it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    enrolment_id: int
    series_title: str | None
    pathway_title: str | None
    protection: Sentence | None = Field(None, description="What protects it, and until when; null: nothing does.")


class PlanWaiting(BaseModel):
    """A held job that also names enrolments which a plan would withdraw."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    job_id: int
    enrolments: int = Field(description="Of those that would be withdrawn, how many the held job names.")
    samples: list[PlanSample] = Field(
        default=[], description="Up to five of them; only of the five held jobs that name the most."
    )


class Plan(BaseModel):
    """The dry run of a job: the outcomes it would have now; nothing was written."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    plan_hash: str = Field(description="Send it with the job: refused when the outcomes have drifted meanwhile.")
    expires_at: datetime
    accepted: int
    duplicates: int
    outcomes: dict[str, int]
    samples: dict[str, list[PlanSample]] = Field(description="Up to five enrolments for each outcome.")
    learners: int = Field(description="Distinct learners of the enrolments that exist.")
    brake: bool = Field(description="Whether the brake would hold the job now.")
    brake_why: str | None
    brake_forecast: BrakeForecast = Field(description="What the brake would do now, and the way on.")
    waiting: list[PlanWaiting] = Field(
        default=[],
        description="Held jobs that name some of these enrolments too, most first. The job does not wait for them.",
    )
    more_held: bool = Field(
        default=False,
        description="More jobs are held than were counted: the newest 200, up to 100,000 enrolments.",
    )
    letters: list[int] = Field(
        default=[],
        description="Open letters about those that a Learning Pathway owns, up to 500. A new request joins its letter.",
    )
    more_letters: bool = Field(default=False, description="Whether there may be more such letters.")


class FileFault(BaseModel):
    """What is wrong with one row of a file."""

    model_config = ConfigDict(frozen=True)

    line: int
    column: str | None = Field(description="Null if it is the row as a whole.")
    message: Sentence
    suggestion: str | None = Field(
        default=None, description="Of a Series code that no Series has: the code that may be meant."
    )

    @property
    def text(self) -> str:
        """The message with its column."""
        return f"{self.column}: {self.message}" if self.column else self.message

    def __str__(self) -> str:
        return f"Line {self.line}: {self.text}"


class RepeatedRow(BaseModel):
    """A row whose enrolment an earlier row of the file names as well."""

    model_config = ConfigDict(frozen=True)

    line: int
    first_line: int = Field(description="Where the enrolment is named first.")
    enrolment_id: int


class FileCheck(BaseModel):
    """What was found in a file."""

    model_config = ConfigDict(frozen=True)

    format: str = Field(description="`csv` or `workbook` (XLSX, ODS).")
    columns: dict[str, str] = Field(description="The columns that are read, with their names in the file.")
    rows: int = Field(description="Rows below the header.")
    good: int = Field(description="Rows that name an enrolment.")
    taken_before: int = Field(description="Of the good rows, those that an earlier job of the batch has taken.")
    fault_count: int = Field(description="Rows with a fault.")
    faults: list[FileFault] = Field(description="The first hundred of them.")
    repeated: list[RepeatedRow] = Field(
        default=[], description="In a plan: the first hundred rows whose enrolment an earlier row names as well."
    )


class FilePlan(BaseModel):
    """What was found in a file, and what a job over its good rows would do."""

    model_config = ConfigDict(frozen=True)

    upload: UUID = Field(description="The file is kept under this id: send it instead of the file.")
    expires_at: datetime = Field(description="When the file is forgotten.")
    faults_file: str | None = Field(description="Where the rows with faults are, as a file; null if there are none.")
    check: FileCheck
    plan: Plan | None = Field(description="Null if no row is good.")


class FileResult(BaseModel):
    """What became of the rows of a file."""

    model_config = ConfigDict(frozen=True)

    upload: UUID | None = Field(description="Under which the file, or its rows with faults, are kept for a day.")
    faults_file: str | None = Field(description="Where the rows with faults are, as a file; null if there are none.")
    check: FileCheck


class FileJob(Job):
    """The job of a file, with what became of its rows where `upload`, `faults` or `batch` was given."""

    file: FileResult


class Released(BaseModel):
    """What became of a release by filter."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    released: int
    own: int = Field(description="Left held, because nobody releases a job they requested.")


class JobOutcome(BaseModel):
    """What happened to one enrolment of a job; to a person as a whole when the job ended before it was applied."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    enrolment_id: int | None
    learner_external_id: str | None = Field(None, description="Of a person job that was closed whole.")
    outcome: str = Field(description=describe(OUTCOMES))
    prior_status: str | None
    pathway_id: int | None
    dead_letter_id: int | None
    decided_at: datetime | None
    reinstated_by: int | None = Field(None, description="The job that took it back.")


class DeadLetter(BaseModel):
    """Something that needs a person, with what is known of it and what can be done."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    code: str = Field(description=describe(LETTER_CODES))
    state: str = Field(description=describe(LETTER_STATES))
    job_id: int | None
    job_ids: list[int]
    enrolment_id: int | None
    learner_external_id: str | None
    count: int
    fingerprint: str
    message: str
    error_class: str | None
    diagnosis: Diagnosis
    evidence: dict[str, Any]
    remedies: Annotated[dict[str, str], Field(description="What can be done, each with what it would do to this one.")]
    recommended: Annotated[
        Recommendation | None, Field(description="Of these, the one that fits what the platform shows now.")
    ] = None
    assignee: str | None
    opened_at: datetime
    due_at: Annotated[datetime | None, Field(description="Overdue from then on; null once it is closed.")]
    overdue: bool
    closed_at: datetime | None
    closed_by: str | None
    remedy: str | None
    attempts: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    history: Annotated[list[Event], Field(description="All that happened to it, in the order of time.")] = []


class Receipt(BaseModel):
    """What was answered to an event that an HR system sent. `GET /v1/receipts/{receipt_id}` tells what became of it."""

    receipt_id: str
    job_id: int | None = Field(None, description="The job, where an older version answered with it.")
    status: str = Field(description=describe(RECEIPT_STATUSES))


class ShownReceipt(BaseModel):
    """What became of an event. The receipt does not name the person; the job does."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    receipt_id: str
    state: str = Field(
        description="`waiting`: the event is accepted, and not applied yet. `applied`: `status` is final."
    )
    status: str = Field(description=describe(RECEIPT_STATUSES))
    job_id: int | None = Field(description="The job that carries the event out.")
    dead_letter_id: int | None = Field(description="Of an event that could not be read or applied.")
    source: str
    event_id: str = Field(description="The sender's own id of the event.")
    type: str | None
    occurred_at: datetime | None
    effective_at: datetime | None
    received_at: datetime
    applied_at: datetime | None


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
