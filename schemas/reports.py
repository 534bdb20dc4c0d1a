"""Reports: the one filter of the view, the exports and the command line, and what they answer."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.jobs import ReasonName, Storable, When

Source = Literal["hr", "bulk", "correction", "admin", "support"]
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable]
Words = Annotated[list[Word], Field(max_length=20)]


class StatusFilter(BaseModel):
    """Enrolments by what they are now and by the job; conditions add up, none means all, withdrawn ones included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Annotated[
        Words, Field(description="Only these; repeat it for several. The platform may know more than the rules do.")
    ] = []
    exclude_status: Annotated[Words, Field(description="Without these; repeat it for several.")] = []
    series_id: Number | None = None
    source: Annotated[Source | None, Field(description="Of the job that withdrew, or decided.")] = None


class EnrolmentFilter(StatusFilter):
    """Enrolments of an organisation."""

    reason: Annotated[ReasonName | None, Field(description="Why it was withdrawn.")] = None
    withdrawn_from: Annotated[
        When | None, Field(description="Withdrawn at or after; a date alone: its beginning in the organisation's zone.")
    ] = None
    withdrawn_to: Annotated[
        When | None, Field(description="Withdrawn before; a date alone: its end in the organisation's time zone.")
    ] = None


class OutcomeFilter(StatusFilter):
    """Outcomes of an organisation's jobs; `status` is the enrolment's now."""

    reason: Annotated[ReasonName | None, Field(description="Of the job.")] = None
    job_id: Number | None = None
    outcome: Annotated[Words, Field(description="Only these; repeat it for several.")] = []
    decided_from: Annotated[
        When | None, Field(description="Decided at or after; a date alone: its beginning in the organisation's zone.")
    ] = None
    decided_to: Annotated[
        When | None, Field(description="Decided before; a date alone: its end in the organisation's time zone.")
    ] = None


class EnrolmentRow(BaseModel):
    """An enrolment as it is now; what withdrew it, when this service did."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    enrolment_id: int
    learner_external_id: str
    series_code: str
    series_title: str
    pathway_title: str | None
    status: str
    enrolled_at: datetime | None
    due_at: datetime | None
    progress: float
    withdrawn_at: datetime | None
    withdrawal_reason: str | None
    withdrawn_by: str | None
    source: str | None
    job_id: int | None


class OutcomeRow(BaseModel):
    """What a job decided of an enrolment; the enrolment as it is now, when there is one."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    job_id: int
    enrolment_id: int
    learner_external_id: str | None
    series_code: str | None
    series_title: str | None
    pathway_title: str | None
    status: str | None
    outcome: str
    prior_status: str | None
    decided_at: datetime
    reason: str | None
    source: str
    requested_by: str
    dead_letter_id: int | None


class WeekCount(BaseModel):
    """Withdrawals of one reason in one week."""

    week: Annotated[date, Field(description="The Monday it begins with, in UTC.")]
    reason: str
    count: int


class CauseCount(BaseModel):
    """What was refused for one cause: an outcome that is neither a withdrawal nor a cancellation."""

    cause: str
    count: int


class BandCount(BaseModel):
    """Withdrawals that took so long, and not so short as the band before."""

    band: Literal["under_10_seconds", "under_1_minute", "under_10_minutes", "under_1_hour", "under_1_day", "over_1_day"]
    count: int


class Durations(BaseModel):
    """Seconds from the request, or from when it was to hold if later, to the withdrawal; None without any."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    bands: Annotated[list[BandCount], Field(description="Every band, from the shortest; empty without withdrawals.")]


class AgeCount(BaseModel):
    """Open dead letters of one code and age."""

    age: Literal["under_1_hour", "under_1_day", "under_1_week", "over_1_week"]
    code: str
    count: int


class Summary(BaseModel):
    """What happened to the requests of an organisation, ready for charts; open letters are those of now."""

    withdrawn_from: datetime | None
    withdrawn_to: datetime | None
    withdrawals: list[WeekCount]
    refused: list[CauseCount]
    seconds_to_withdrawal: Durations
    open_letters: list[AgeCount]
