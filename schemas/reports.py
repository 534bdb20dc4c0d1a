"""Reports: the one filter of the lists, the exports, the pages and the command line, and what they answer."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .catalogue import SEES_NAMES, Source
from .jobs import ReasonName, Storable, When

RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable]
Codes = Annotated[list[Code], Field(max_length=20)]


class DurationBand(StrEnum):
    """How long a withdrawal took, from the request or from its effective time, whichever is later."""

    UNDER_10_SECONDS = "under_10_seconds"
    UNDER_1_MINUTE = "under_1_minute"
    UNDER_10_MINUTES = "under_10_minutes"
    UNDER_1_HOUR = "under_1_hour"
    UNDER_1_DAY = "under_1_day"
    OVER_1_DAY = "over_1_day"


class StatusFilter(BaseModel):
    """The Status filter (rule 8). Every condition that is given must hold; without any, all rows are included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Annotated[
        Codes,
        Field(
            description="Only enrolments with one of these statuses. Repeat it for several. "
            "Any text is allowed: the platform may have statuses that this service does not know."
        ),
    ] = []
    exclude_status: Annotated[
        Codes, Field(description="No enrolments with one of these statuses. Repeat it for several.")
    ] = []
    series_id: RowId | None = None
    source: Annotated[
        Source | None, Field(description="The source of the job that withdrew or decided the enrolment.")
    ] = None


class EnrolmentFilter(StatusFilter):
    """Which enrolments of an organisation."""

    reason: Annotated[ReasonName | None, Field(description="The reason of the withdrawal.")] = None
    withdrawn_from: Annotated[
        When | None,
        Field(description="Withdrawn at or after this time. A date means its start in the organisation's time zone."),
    ] = None
    withdrawn_to: Annotated[
        When | None,
        Field(description="Withdrawn before this time. A date means its end in the organisation's time zone."),
    ] = None


class ComparisonFilter(EnrolmentFilter):
    """A period and the one that it is compared with: by default the one just before, of the same length."""

    compare_from: Annotated[When | None, Field(description="The start of the other period, as `withdrawn_from`.")] = (
        None
    )
    compare_to: Annotated[When | None, Field(description="The end of the other period, as `withdrawn_to`.")] = None


class OutcomeFilter(StatusFilter):
    """Which outcomes of an organisation's jobs. `status` is the status that the enrolment has now."""

    reason: Annotated[ReasonName | None, Field(description="The reason of the job.")] = None
    job_id: RowId | None = None
    outcome: Annotated[Codes, Field(description="Only these outcomes. Repeat it for several.")] = []
    took: Annotated[
        DurationBand | None,
        Field(description="How long it took, from the request or its effective time if later, to the decision."),
    ] = None
    standing: Annotated[
        bool,
        Field(
            description="Only what the summary counts: decisions of withdrawals, of one enrolment each, "
            "that were not taken back since."
        ),
    ] = False
    decided_from: Annotated[
        When | None,
        Field(description="Decided at or after this time. A date means its start in the organisation's time zone."),
    ] = None
    decided_to: Annotated[
        When | None,
        Field(description="Decided before this time. A date means its end in the organisation's time zone."),
    ] = None


class WithNames(BaseModel):
    """What a list and a file show beside the ids."""

    names: Annotated[
        bool,
        Field(description=f"With the learner's name and e-mail address. The role {SEES_NAMES} or above may see them."),
    ] = False


class Named(BaseModel):
    """The learner of a row. Null unless asked for by `names`, and where the platform has none."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    learner_name: str | None = None
    learner_email: str | None = None


class RowCount(BaseModel):
    """How many rows a filter finds."""

    count: Annotated[
        int | None, Field(description="At most `counted_to`. Null: to count them takes too long; narrow the filter.")
    ]
    counted_to: int
    at_least: Annotated[bool, Field(description="Whether there are more than `count`.")]


class EnrolmentRow(Named):
    """An enrolment as it is now. `source` and `job_id` name the job that withdrew it, if this service did."""

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


class OutcomeRow(Named):
    """What a job decided about an enrolment, and the enrolment as it is now, if it exists."""

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


class LetterAge(StrEnum):
    """How long ago a dead letter was opened."""

    UNDER_1_HOUR = "under_1_hour"
    UNDER_1_DAY = "under_1_day"
    UNDER_1_WEEK = "under_1_week"
    OVER_1_WEEK = "over_1_week"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a band or an age is called, and the length that it stays below (None: no limit)."""

    label: str
    below: timedelta | None


DURATION_BANDS: dict[DurationBand, Bound] = {
    DurationBand.UNDER_10_SECONDS: Bound("Under 10 s", timedelta(seconds=10)),
    DurationBand.UNDER_1_MINUTE: Bound("10 s to 1 min", timedelta(minutes=1)),
    DurationBand.UNDER_10_MINUTES: Bound("1 to 10 min", timedelta(minutes=10)),
    DurationBand.UNDER_1_HOUR: Bound("10 min to 1 h", timedelta(hours=1)),
    DurationBand.UNDER_1_DAY: Bound("1 to 24 h", timedelta(days=1)),
    DurationBand.OVER_1_DAY: Bound("Over a day", None),
}
"""From the shortest. Each one starts where the one before ends."""

LETTER_AGES: dict[LetterAge, Bound] = {
    LetterAge.UNDER_1_HOUR: Bound("Under an hour", timedelta(hours=1)),
    LetterAge.UNDER_1_DAY: Bound("1 to 24 h", timedelta(days=1)),
    LetterAge.UNDER_1_WEEK: Bound("1 to 7 days", timedelta(weeks=1)),
    LetterAge.OVER_1_WEEK: Bound("Over a week", None),
}
"""From the youngest. Each one starts where the one before ends."""


class WeekCount(BaseModel):
    """Withdrawals with one reason in one week."""

    week: Annotated[date, Field(description="The Monday on which the week starts, in UTC.")]
    reason: str
    count: int


class CauseCount(BaseModel):
    """Enrolments that were refused for one cause: an outcome that is neither a withdrawal nor a cancellation."""

    cause: str
    count: int


class BandCount(BaseModel):
    """Withdrawals that took as long as the band says."""

    band: DurationBand
    count: int


class Durations(BaseModel):
    """Seconds from the request, or from its effective time if later, to the withdrawal. Null without withdrawals."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    bands: Annotated[list[BandCount], Field(description="Every band, from the shortest. Empty without withdrawals.")]


class AgeCount(BaseModel):
    """Open dead letters of one code and age."""

    age: LetterAge
    code: str
    count: int


class Summary(BaseModel):
    """What happened to the requests of an organisation. The dead letters are those that are open now."""

    withdrawn_from: datetime | None
    withdrawn_to: datetime | None
    withdrawals: list[WeekCount]
    refused: list[CauseCount]
    seconds_to_withdrawal: Durations
    open_letters: list[AgeCount]


class FigureKind(StrEnum):
    """What a figure of a comparison counts."""

    WITHDRAWN = "withdrawn"
    REFUSED = "refused"


class Difference(BaseModel):
    """A figure of the period beside the same figure of the period that it is compared with."""

    kind: FigureKind
    code: Annotated[
        str | None, Field(description="The reason of the withdrawals or the cause of the refusals; null: all.")
    ]
    now: int
    before: int
    difference: Annotated[int, Field(description="`now` less `before`.")]


class Comparison(BaseModel):
    """Two periods beside each other, read from one snapshot."""

    period: Summary
    before: Summary
    differences: list[Difference]
