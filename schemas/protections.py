"""Protections over the wire: a learner or an enrolment that nothing withdraws for a time."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .catalogue import PROTECTION_KINDS, ProtectionKind, describe
from .jobs import ExternalId, Id, Note, Request, When

Why = Annotated[Note, StringConstraints(min_length=1)]


class ProtectionRequest(Request):
    """A learner, with all their enrolments now and later, or one enrolment; why, and until when."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"learner_external_id": "E-1042", "kind": "legal_hold", "reason": "Case 2026-17"}]
        },
    )

    learner_external_id: ExternalId | None = None
    enrolment_id: Id | None = None
    kind: Annotated[ProtectionKind, Field(description=describe(PROTECTION_KINDS))]
    reason: Why
    until: Annotated[
        When | None,
        Field(
            description="When it ends by itself. An exemption needs it; without it, a legal hold lasts until lifted."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_subject_and_an_end(self) -> Self:
        if (self.learner_external_id is None) == (self.enrolment_id is None):
            raise ValueError("give a learner (learner_external_id) or an enrolment (enrolment_id)")
        if self.kind is ProtectionKind.EXEMPTION and self.until is None:
            raise ValueError("until: an exemption needs an end")
        return self


class Lift(Request):
    """Why a protection is lifted before its end."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"note": "Case closed."}]})

    note: Why


class Protection(BaseModel):
    """A protection, and what became of it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    state: Literal["live", "ended", "lifted"]
    learner_external_id: str | None = Field(description="All that this learner is enrolled in, now or later.")
    enrolment_id: int | None
    kind: ProtectionKind
    reason: str
    made_by: str
    starts_at: datetime
    until: datetime | None = Field(description="When it ends by itself; null: until it is lifted.")
    lifted_by: str | None
    lifted_at: datetime | None
    lift_note: str | None


class ProtectionPolicy(Request):
    """What happens to a withdrawal that a protection kept back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    letters: Annotated[
        bool,
        Field(
            description="True: it becomes a dead letter, and is tried again within a day after the protection ends. "
            "False: its outcome is `protected`, and nothing follows."
        ),
    ]
