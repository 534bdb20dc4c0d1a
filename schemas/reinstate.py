"""The undo of a job: all that it withdrew, or a part."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .jobs import MAX_IDS, Id, Moment, Note, Request


class ReinstateFilter(Request):
    """A part of what the job withdrew: the enrolments that fulfil every condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enrolment_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)] | None = None
    series_id: Id | None = None
    pathway_id: Id | None = None
    learner_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
    enrolled_before: Moment | None = None
    enrolled_after: Moment | None = None

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("a filter needs at least one condition; leave it out to reinstate the whole job")
        return self


class ReinstateRequest(Request):
    """Take back what a job withdrew, or with `filter` a part of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: ReinstateFilter | None = None
    note: Note | None = None


class ReinstatePlan(BaseModel):
    """What a reinstate would do now: how many enrolments have each outcome, and up to five of them."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    accepted: int
    outcomes: dict[str, int]
    samples: dict[str, list[int]]
    learners: int
    brake: Annotated[
        bool, Field(description="False: the brake holds no undo, and gives its learners back to the window.")
    ]
