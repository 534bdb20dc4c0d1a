"""The brake over the wire: its limits, its window, what it will do to a job, and limits that two people change."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .control import BrakeSetting
from .jobs import Note, Request
from .sentences import Sentence


class LimitRequest(BrakeSetting):
    """Limits to propose, with the reason for them."""

    note: Note | None = None


class Rejection(Request):
    """Why proposed limits are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    note: Annotated[Note, StringConstraints(min_length=1)]


class LimitProposal(BaseModel):
    """Limits that an owner proposed; they apply once a second person has approved them."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    state: Literal["pending", "approved", "rejected", "withdrawn", "expired"]
    floor: int | None = Field(description="Null: the default of the service.")
    share: float | None = Field(description="Null: the default of the service.")
    hours: int | None = Field(description="Null: the default of the service.")
    note: str | None
    proposed_by: str
    proposed_at: datetime
    expires_at: datetime = Field(description="Nobody can approve it after this time.")
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None


class WindowUse(BaseModel):
    """A job that counts in the window."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    job_id: int
    learners: int
    requested_by: str
    admitted_at: datetime


class BrakeForecast(BaseModel):
    """What the brake would do to a job now."""

    model_config = ConfigDict(frozen=True)

    holds: bool
    learners: int = Field(description="Learners that it would withdraw, which is what the brake counts.")
    used: int = Field(description="Learners of the work that was admitted in the window.")
    limit: int = Field(description="Learners that the window allows.")
    hours: int = Field(description="The window, in hours.")
    used_by: list[WindowUse] = Field(description="If it holds the job: the largest jobs of the window.")
    room_at: datetime | None = Field(
        description="If it holds the job: when the window has room for it, if nothing else is admitted; null: never."
    )
    by: Literal["brake", "policy"] = Field(
        default="brake", description="If it holds the job: the limit for all, or a policy for the source or the Series."
    )
    why: Sentence = Field(description="The figures as a sentence.")
    way_on: Sentence | None = Field(description="If it holds the job: what can be done.")


class BrakeLimits(BaseModel):
    """The brake of an organisation, and how much of its window is used."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    floor: int = Field(description="Learners that may always be withdrawn in one window.")
    share: float = Field(description="Share of the learners that may be withdrawn in one window.")
    hours: int = Field(description="The window, in hours.")
    own: list[str] = Field(description="Which of these the organisation has set itself; the others are defaults.")
    volume: int = Field(description="Learners whom the work that was admitted in the window withdraws.")
    population: int = Field(description="Learners active now, and those deactivated in the window.")
    limit: int = Field(description="Learners that the window allows: the larger of the floor and the share.")
    redrives: int = Field(description="Of the volume: attempts at dead letters.")
    used_by: list[WindowUse] = Field(description="The largest jobs of the window.")
    held: int = Field(description="Jobs that wait for a second person, whatever the cause.")
    proposal: LimitProposal | None = Field(description="The limits that wait for a second person.")
