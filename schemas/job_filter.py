"""Jobs by what they are: the one filter of lists and releases, for the API, the console and the command line."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .catalogue import JobState, Reason, Source
from .dead_letters import Word
from .jobs import Id, Moment

JobOrder = Literal["newest", "oldest"]
"""What a list of jobs begins with."""


class JobConditions(BaseModel):
    """What a job can be selected by, whatever its state."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[Source | None, Field(description="Only jobs from this source.")] = None
    reason: Annotated[Reason | None, Field(description="Only jobs with this reason.")] = None
    series_id: Annotated[
        int | None, Field(ge=1, le=2**63 - 1, description="Only jobs that were asked for this one Series.")
    ] = None
    learner_external_id: Annotated[
        Word | None, Field(description="Only jobs that name this learner or have decided an enrolment of theirs.")
    ] = None
    requested_by: Annotated[Word | None, Field(description="Only jobs that this person or token requested.")] = None
    held_because: Annotated[
        Literal["brake", "policy"] | None, Field(description="Only jobs that were held for this.")
    ] = None
    created_before: Annotated[Moment | None, Field(description="Only jobs created before this time.")] = None
    created_after: Annotated[Moment | None, Field(description="Only jobs created after this time.")] = None


class JobFilter(JobConditions):
    """Jobs of an organisation; conditions add up. No condition selects every job."""

    state: Annotated[JobState | None, Field(description="Only jobs in this state.")] = None


class ReleaseFilter(JobConditions):
    """Held jobs of an organisation; conditions add up, and at least one is needed."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
