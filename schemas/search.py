"""What a search over everything finds."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from .sentences import Sentence


class FoundKind(StrEnum):
    """What can be found, in the order in which it is shown; kinds with an exact match go before others."""

    ENROLMENT = "enrolment"
    JOB = "job"
    DEAD_LETTER = "dead_letter"
    LEARNER = "learner"
    SERIES = "series"


class Found(BaseModel):
    """One thing that a search has found."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    kind: FoundKind
    id: int = Field(description="Of a learner or Series: the platform's id.")
    title: Sentence
    detail: Sentence = Field(description="What else says which one it is; may be empty.")
    learner_external_id: str | None = Field(None, description="Of a learner.")


class SearchAnswer(BaseModel):
    """What a search has found: kinds with an exact match first, and the best first within each kind."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    items: list[Found]
    more: bool = Field(description="Whether more learners or Series match than are listed. Another word narrows it.")
