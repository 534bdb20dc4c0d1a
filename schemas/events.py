"""What an HR system says about a person."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from schemas.jobs import ExternalId, Moment, When

EventType = Literal["user.deactivated", "user.reactivated", "user.deactivation_cancelled"]


class PersonEvent(BaseModel):
    """One event of one source. `sequence`, else the time, decides which is newer within a source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: EventType
    external_id: ExternalId
    occurred_at: Moment | None = None
    """When it happened; None: when it is received, by the database's clock."""
    effective_at: When | None = None
    """When a deactivation holds; None: at once."""
    sequence: Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)] | None = None

    @property
    def deactivates(self) -> bool:
        return self.type == "user.deactivated"
