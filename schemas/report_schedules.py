"""Scheduled reports: what is made, how often, and the files that it became."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .catalogue import SEES_NAMES
from .jobs import ReasonName, Request
from .reports import Codes, RowId, StatusFilter


class Report(StrEnum):
    """What a file lists."""

    ENROLMENTS = "enrolments"
    OUTCOMES = "outcomes"


class Every(StrEnum):
    """How often a report is made: each day, each Monday, or on the first of each month."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Covers(StrEnum):
    """`period`: what was withdrawn or decided in the day, week or month before; `all`: everything as it is then."""

    PERIOD = "period"
    ALL = "all"


FileFormat = Literal["csv", "xlsx", "parquet"]
FileState = Literal["due", "making", "ready", "failed"]


class ScheduledFilter(StatusFilter):
    """The conditions of a scheduled report. The period is that of each run."""

    reason: Annotated[ReasonName | None, Field(description="The reason of the withdrawal, or of the job.")] = None
    job_id: Annotated[RowId | None, Field(description="Of outcomes: only those of this job.")] = None
    outcome: Codes = Field(default_factory=list, description="Of outcomes: only these. Repeat it for several.")


class ScheduleRequest(Request):
    """A report that is made from now on."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"report": "enrolments", "every": "weekly", "format": "xlsx"}]},
    )

    report: Report
    every: Every
    hour: Annotated[int, Field(ge=0, le=23, description="In the organisation's time zone.")] = 6
    covers: Annotated[Covers, Field(description=str(Covers.__doc__))] = Covers.PERIOD
    format: FileFormat = "csv"
    names: Annotated[
        bool,
        Field(description=f"With the learners' names and e-mail addresses: for the role {SEES_NAMES} or above alone."),
    ] = False
    filter: ScheduledFilter = ScheduledFilter()

    @model_validator(mode="after")
    def _of_the_report(self) -> Self:
        if self.report is Report.ENROLMENTS and (self.filter.outcome or self.filter.job_id is not None):
            raise ValueError("filter: outcome and job_id are conditions of the report outcomes")
        return self


class Schedule(BaseModel):
    """A report that is made again and again."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    report: str
    every: str
    hour: int
    covers: str
    format: str
    names: bool
    filter: dict[str, Any]
    next_at: Annotated[datetime | None, Field(description="When it is made next; null: paused or ended.")]
    created_at: datetime
    created_by: str
    paused_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    ended_because: Annotated[str | None, Field(description="Why it ended by itself; null: a person ended it.")]


class ReportFile(BaseModel):
    """A run of a schedule, and the file that it became."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    schedule_id: int
    report: str
    format: str
    names: bool
    due_at: datetime
    first_day: Annotated[date | None, Field(description="The first day that it covers; null: everything.")]
    last_day: date | None
    state: str
    attempts: int
    last_error: Annotated[str | None, Field(description="Why the last attempt failed.")]
    row_count: int | None
    size: Annotated[int | None, Field(description="Bytes.")]
    ended_at: Annotated[datetime | None, Field(description="When it was ready, or failed for good.")]
