"""The audit: who did what, and the chain of hashes over its finished days."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from .jobs import Moment, Storable


class AuditFilter(BaseModel):
    """Which acts; what is left out is any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    actor: Annotated[
        Annotated[str, Storable, Field(max_length=300)] | None, Field(description="Only acts of this actor.")
    ] = None
    action: Annotated[
        Annotated[str, Storable, Field(max_length=100)] | None,
        Field(description="Only this action. `job.` stands for all that begin so."),
    ] = None
    job_id: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="Only acts on this job.")] = None
    dead_letter_id: Annotated[int | None, Field(ge=1, le=2**63 - 1, description="Only acts on this dead letter.")] = (
        None
    )
    since: Annotated[Moment | None, Field(description="Only acts at or after this time.")] = None
    until: Annotated[Moment | None, Field(description="Only acts before this time.")] = None


class AuditAct(BaseModel):
    """An act of a person, a token or a source."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    at: datetime
    actor: Annotated[str, Field(description="Who: `token:` and its name, `cli:` and a user, `hr:` and a source.")]
    action: Annotated[str, Field(description="What: `job.submit`, `token.create`, `dead_letter.override` …")]
    job_id: int | None
    dead_letter_id: int | None
    note: str | None
    detail: dict[str, Any]


class AuditDay(BaseModel):
    """A finished day (UTC) of the audit: a link of its chain."""

    model_config = ConfigDict(frozen=True)

    day: date
    after: Annotated[date | None, Field(description="The day of the link before; null: the first.")]
    row_count: int
    hash: Annotated[
        str,
        Field(description="SHA-256, in hex: of the hash before (32 zero bytes for the first) and of the SHA-256 of the "
              "SHA-256 of each record, in the order of their ids."),
    ]  # fmt: skip
