"""Full rosters over the wire: what an HR system says at one time about everybody, and what follows from it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .answers import Plan
from .jobs import Note, Request, When


class Finding(StrEnum):
    """What the comparison of a roster with the platform and the events found about a person."""

    INACTIVE = "inactive"
    MISSING = "missing"
    ACTIVE_AGAIN = "active_again"
    UNDER_WAY = "under_way"
    NEWER_EVENT = "newer_event"
    ANNOUNCED = "announced"
    UNKNOWN_TO_PLATFORM = "unknown_to_platform"
    UNKNOWN_TO_ROSTER = "unknown_to_roster"


FINDINGS = {
    Finding.INACTIVE: "The roster has them as inactive, and they hold enrolments that are neither ended nor withdrawn.",
    Finding.MISSING: "They are not in the roster, and hold such enrolments since before its time.",
    Finding.ACTIVE_AGAIN: "The roster has them as active, and they were deactivated before its time.",
    Finding.UNDER_WAY: "They left, and a job that withdraws them is under way.",
    Finding.NEWER_EVENT: "An event that is newer than the roster says otherwise, and wins.",
    Finding.ANNOUNCED: "The roster has them as active. They leave on a later day, as an event has announced.",
    Finding.UNKNOWN_TO_PLATFORM: "The platform does not know them.",
    Finding.UNKNOWN_TO_ROSTER: "They are not in the roster, and hold no enrolment that it could be about.",
}
"""Each finding in a sentence."""

LEFT = (Finding.INACTIVE, Finding.MISSING)
"""Findings of people who are to be withdrawn."""


class RosterRequest(Request):
    """How a roster is to be taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: Annotated[
        When,
        Field(
            description="The time that the roster speaks about: an event that is newer wins. A date alone is the "
            "beginning of that day in the organisation's time zone."
        ),
    ]
    missing: Annotated[
        Literal["withdraw", "report"],
        Field(description="What follows for people of the platform who are not in the roster."),
    ] = "withdraw"
    allow_shrink: Annotated[
        Annotated[Note, StringConstraints(min_length=1)] | None,
        Field(description="Why the roster may be much smaller than the one before. Needs the role `approver`."),
    ] = None


class RosterSample(BaseModel):
    """A line of a roster; without a number, a person whom the platform has and the roster does not."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    line: int | None
    learner_external_id: str


class Roster(BaseModel):
    """A full roster, what was found in it, and what became of it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    state: Literal["planned", "accepted", "done", "expired", "failed"] = Field(
        description="Planned: nothing has changed. Accepted: being applied. Done: applied, and its job was made if "
        "anybody is to be withdrawn. Expired: planned a day ago, and forgotten. Failed: it could not be applied to its "
        "end, and is not tried again by itself. Confirm it again, or send a newer one."
    )
    as_of: datetime
    kind: Literal["file", "scim"]
    file_name: str | None
    people: int
    active: int
    missing: Literal["withdraw", "report"]
    findings: dict[str, int] = Field(description="People by finding.")
    shrink_reason: str | None
    planned_by: str
    planned_at: datetime
    accepted_by: str | None
    accepted_at: datetime | None
    done_at: datetime | None
    job_id: int | None = Field(description="The one job that withdraws the people who left.")
    failure: str | None = Field(description="Why the last attempt to apply it failed. An accepted one is tried again.")
    failed_at: datetime | None


class RosterPlan(Roster):
    """A roster with what it would do now."""

    samples: dict[str, list[RosterSample]] = Field(description="The first people of each finding.")
    plan: Plan | None = Field(description="What the job would do; null: nobody is to be withdrawn.")


class SilenceLimit(Request):
    """After how long without a word a source counts as silent."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"hours": 192}]})

    hours: Annotated[int, Field(ge=1, le=8784, description="Hours; null: never.")] | None


class HeardSource(BaseModel):
    """A source of HR events: an HR system, the SCIM directory (`scim`), or the full rosters (`roster`)."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    source: str
    kind: str
    heard_at: datetime | None = Field(description="Its last event, request or roster; null: never.")
    silent_after_hours: int | None = Field(description="Null: nobody waits for it.")
    is_silent: bool = Field(description="Whether it was not heard for longer than that.")
