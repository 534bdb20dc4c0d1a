"""The audit: who did what, and the chain of hashes over its finished days."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


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
