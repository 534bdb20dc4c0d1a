"""How long rows are kept, and what was let go."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field

from .sentences import Sentence


class Kept(BaseModel):
    """Rows of one kind, and for how long they are kept."""

    model_config = ConfigDict(frozen=True)

    what: str = Field(
        description="The kind: `jobs`, `receipts`, `rosters`, `audit`, `events`, `deliveries`, "
        "`report_files`, `letters`."
    )
    sentence: Sentence = Field(description="Which rows these are.")
    days: int | None = Field(description="Null: for ever.")
    setting: str = Field(description="The setting of the service that says so.")


class Prune(BaseModel):
    """Rows that were let go in one step, with their record."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    kind: str = Field(
        description="`jobs`: their details. `receipts`, `audit`: rows of one day. `rosters`: lines of one."
    )
    day: date | None
    row_count: int
    pruned_by: str
    pruned_at: datetime


class Retention(BaseModel):
    """What is kept for how long, and what was let go, newest first."""

    model_config = ConfigDict(frozen=True)

    kept: list[Kept]
    daily: bool = Field(description="Whether jobs, receipts and rosters are pruned once a day, without a command.")
    pruned: list[Prune] = Field(description="The newest 100 steps.")
