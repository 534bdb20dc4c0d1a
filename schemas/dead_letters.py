"""Dead letters: the one filter of lists, groups and acts on all that match; and acts on single letters."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .catalogue import LetterCode, LetterState, Reason, Source
from .jobs import Moment, Note, Request, Storable

Word = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable]


NOBODY = "none"
"""In a filter, letters that nobody looks after."""


LetterOrder = Literal["due", "newest", "oldest"]
"""What a list of letters begins with: what is overdue for longest, or the newest or oldest number."""


class LetterFilter(Request):
    """Dead letters of an organisation. Every condition given has to hold; without any, all letters match."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: Annotated[
        list[Annotated[int, Field(ge=1, le=2**63 - 1)]] | None,
        Field(min_length=1, max_length=500, description="Only these letters."),
    ] = None
    code: LetterCode | None = None
    state: LetterState | None = None
    job_id: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="Letters that this job refers to.")] = None
    run_id: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="Letters that this run was begun over.")] = None
    source: Annotated[Source | None, Field(description="Of the job that opened it.")] = None
    reason: Annotated[Reason | None, Field(description="Of the job that opened it.")] = None
    series_id: Annotated[
        int | None, Field(ge=1, le=2**63 - 1, description="Letters about an enrolment in this Series.")
    ] = None
    learner_external_id: Annotated[
        Word | None, Field(description="Letters about this learner or an enrolment of theirs.")
    ] = None
    fingerprint: Word | None = None
    assignee: Annotated[Word | None, Field(description="`none` for letters without an assignee.")] = None
    older_than: Annotated[Moment | None, Field(description="Opened before this time.")] = None
    newer_than: Annotated[Moment | None, Field(description="Opened after this time.")] = None
    changed: Annotated[
        bool | None, Field(description="Whether the platform now shows another status or pathway than the letter saw.")
    ] = None
    overdue: Annotated[
        bool | None, Field(description="Whether it has been open for longer than its code's target.")
    ] = None

    @property
    def filter(self) -> "LetterFilter":
        """The conditions alone, without what a request carries beside them."""
        return LetterFilter(**self.model_dump(include=set(LetterFilter.model_fields), exclude_unset=True))


class LetterAct(StrEnum):
    """What a person can do to a dead letter, or to all that match."""

    REDRIVE = "redrive"
    OVERRIDE = "override"
    CASCADE = "cascade"
    KEEP = "keep"
    DISCARD = "discard"


class Act(Request):
    """What goes with an act on a dead letter or a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"note": "asked twice"}]})

    note: Annotated[Note | None, Field(description="Kept beside the act.")] = None


class Resolution(Request):
    """The remedy for a dead letter; the note says why."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"remedy": "keep", "note": "its owner wants it"}]}
    )

    remedy: Annotated[Word, Field(description="One of the letter's `remedies`: `keep`, `override`, ….")]
    note: Annotated[Note, Field(min_length=1)]
