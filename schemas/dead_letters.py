"""Dead letters by what they are: the one filter of listings, groups and acts on all that match; and single acts."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.jobs import Moment, Note, Storable

Code = Literal[
    "pathway_owned", "unknown_status", "not_found", "unknown_learner", "retries_exhausted", "poison", "invalid_event"
]
State = Literal["open", "redriven", "resolved", "discarded"]
Source = Literal["hr", "bulk", "correction", "admin", "support"]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable]


class LetterFilter(BaseModel):
    """Dead letters of an organisation; conditions add up, none means all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: Code | None = None
    state: State | None = None
    job_id: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="Letters that this job refers to.")] = None
    source: Annotated[Source | None, Field(description="Of the job that opened it.")] = None
    fingerprint: Word | None = None
    assignee: Annotated[Word | None, Field(description="`none` for letters that nobody has.")] = None
    older_than: Annotated[Moment | None, Field(description="Opened before this time.")] = None
    changed: Annotated[
        bool | None, Field(description="Whether the platform shows another state now than the letter saw.")
    ] = None
    overdue: Annotated[bool | None, Field(description="Whether it is open for longer than its code's target.")] = None


class Act(BaseModel):
    """What goes with an act on a dead letter or a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"note": "asked twice"}]})

    note: Annotated[Note | None, Field(description="Kept beside the act.")] = None


class Resolution(BaseModel):
    """How a dead letter is decided; the note says why."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"remedy": "keep", "note": "its owner wants it"}]}
    )

    remedy: Annotated[Word, Field(description="One of the letter's `remedies`: `keep`, `override`, ….")]
    note: Annotated[Note, Field(min_length=1)]
