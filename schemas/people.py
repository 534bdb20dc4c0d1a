"""People over the wire: a person's whole history, and the request to erase them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .desk import Event, LetterInHistory
from .jobs import ExternalId, Note, Storable
from .protections import Protection

Word = Annotated[str, StringConstraints(min_length=3, max_length=255, strip_whitespace=True), Storable]


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class Profile(_Read):
    """The learner as the platform has them."""

    learner_id: int
    email: str | None
    display_name: str | None
    active: bool


class PersonState(_Read):
    """What the newest event of each HR source, taken together, says."""

    active: bool
    effective_at: datetime | None = Field(description="From when on they are inactive; null while they are active.")


class PersonEnrolment(_Read):
    """One enrolment of the person, in any Series."""

    id: int
    status: str
    series_id: int
    series_code: str
    series_title: str
    pathway_title: str | None
    enrolled_at: datetime
    withdrawn_at: datetime | None
    withdrawal_reason: str | None
    withdrawn_by: str | None


class PersonNews(_Read):
    """An event about the person."""

    type: str
    source: str = Field(description="The HR source, or the door, that it came through.")
    at: datetime = Field(description="When it was applied; of one that waits: when it was received.")
    waits: bool = Field(description="It is stored, and not applied yet.")
    receipt_id: str | None = Field(description="Of one that waits.")


class PersonJob(_Read):
    """A job that was about the person or one of their enrolments, with the outcomes that they have from it."""

    id: int
    kind: str
    state: str
    reason: str | None
    source: str
    requested_by: str
    note: str | None
    created_at: datetime
    effective_at: datetime
    released_by: str | None
    outcomes: dict[int, str] = Field(description="By enrolment; empty while nothing of theirs is decided.")
    open_dead_letters: int = Field(0, description="Dead letters of the job, of anybody, that are not closed.")


class PersonHistory(_Read):
    """All that is known about one person: the newest 200 of each kind."""

    external_id: str
    profile: Profile | None = Field(description="Null: the platform does not know them.")
    state: PersonState | None = Field(description="Null: no HR event was about them.")
    enrolments: list[PersonEnrolment]
    events: list[PersonNews]
    jobs: list[PersonJob]
    dead_letters: list[LetterInHistory]
    protections: list[Protection]
    approvals: list[Event] = Field(
        description="What was asked of a second person, and what they decided: releases, remedies, protections lifted."
    )
    history: list[Event] = Field(description="All of it by time.")
    cut: list[str] = Field(description="Of which of these lists there is more than is shown.")

    @property
    def live_protections(self) -> list[Protection]:
        """Those in force."""
        return [one for one in self.protections if one.state == "live"]


class ErasureRequest(BaseModel):
    """Who is to be erased, why, and what else means the person in texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    external_id: ExternalId
    note: Note = ""
    also: list[Word] = []
    with_name: bool = True
