"""Saved views over the wire: a filter of a list that a person keeps under a name."""

import re
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .catalogue import JobState, LetterCode, LetterState, Reason, Source, Status
from .dead_letters import Word
from .jobs import Request, Storable
from .sentences import Sentence


class ListName(StrEnum):
    """Lists of which a view can be saved."""

    JOBS = "jobs"
    DEAD_LETTERS = "dead_letters"
    ENROLMENTS = "enrolments"
    LEARNERS = "learners"


ViewName = Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True), Storable]
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]
Learner = Annotated[Word | None, Field(description="A learner's external id, compared exactly.")]
Code = Annotated[Word | None, Field(description="The code of a Series.")]


def _age_or_time(given: str) -> str:
    if _AGE.fullmatch(given) is None:
        try:
            datetime.fromisoformat(given)
        except ValueError:
            raise ValueError("give an age such as 36h or 3d, a day, or a time (RFC 3339)") from None
    return given


_AGE = re.compile("[0-9]{1,6}[hd]")
Age = Annotated[Word, AfterValidator(_age_or_time)]
Day = Annotated[date | None, Field(description="A day in the time zone of whoever looks.")]


class _Conditions(Request):
    """What the form of a list has. Days and ages stay what they are: they mean another time each day."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JobsView(_Conditions):
    """Conditions of the list of jobs."""

    state: JobState | None = None
    source: Source | None = None
    reason: Reason | None = None
    series: Code = None
    learner_external_id: Learner = None
    requested_by: Word | None = None
    created_from: Day = None
    created_to: Day = None
    sort: Literal["newest", "oldest"] | None = None


class LettersView(_Conditions):
    """Conditions of the list of dead letters."""

    code: LetterCode | None = None
    state: LetterState | None = None
    job_id: Number | None = None
    source: Source | None = None
    reason: Reason | None = None
    series: Code = None
    series_id: Number | None = None
    learner_external_id: Learner = None
    fingerprint: Word | None = None
    assignee: Annotated[Word | None, Field(description="`mine`: of whoever looks. `none`: of nobody.")] = None
    older_than: Annotated[Age | None, Field(description="An age such as `36h` or `3d`, a day, or a time.")] = None
    newer_than: Annotated[Age | None, Field(description="An age, a day, or a time.")] = None
    changed: bool | None = None
    overdue: bool | None = None
    sort: Literal["due", "newest", "oldest"] | None = None


class EnrolmentsView(_Conditions):
    """Conditions of the list of a Series's enrolments."""

    series_id: Number
    learner: Annotated[Word | None, Field(description="A part of a learner's id, name or email address.")] = None
    status: Annotated[list[Status] | None, Field(min_length=1, max_length=20)] = None
    pathway_id: Number | None = None
    enrolled_from: Day = None
    enrolled_to: Day = None


class LearnersView(_Conditions):
    """What learners are searched by."""

    learner: Annotated[Word, Field(description="A part of a learner's id, name or email address.")]


CONDITIONS: dict[ListName, type[BaseModel]] = {
    ListName.JOBS: JobsView,
    ListName.DEAD_LETTERS: LettersView,
    ListName.ENROLMENTS: EnrolmentsView,
    ListName.LEARNERS: LearnersView,
}


class ViewRequest(Request):
    """A view to be saved."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"list": "jobs", "name": "Held for long", "filter": {"state": "held"}}]},
    )

    list: ListName
    name: ViewName
    filter: Annotated[
        dict[str, Any],
        Field(description="Conditions of the list, as its form at the console has them. At least one."),
    ]
    shared: Annotated[bool, Field(description="Whether everybody of the organisation sees it.")] = False


class ViewChange(Request):
    """What is to be another name, or filter, or sharing; what is left out stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"shared": True}]})

    name: ViewName | None = None
    filter: Annotated[dict[str, Any] | None, Field(description="All conditions, in place of those before.")] = None
    shared: bool | None = None


class SavedView(BaseModel):
    """A view of the caller, or one that is shared with the organisation."""

    model_config = ConfigDict(frozen=True)

    id: int
    list: ListName
    name: str
    filter: dict[str, Any]
    shared: bool
    owner: str
    own: bool = Field(description="Whether it is the caller's, who alone changes it.")
    fault: Sentence | None = Field(description="Why the list does not take the filter any more; null: it does.")
    page: str = Field(description="Where the console shows the list with this filter.")
    created_at: datetime
    changed_at: datetime
