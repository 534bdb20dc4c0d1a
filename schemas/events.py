"""Events about persons, as HR systems send them and as the service records them."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from .jobs import ExternalId, Moment, When

EventType = Literal["user.deactivated", "user.reactivated", "user.deactivation_cancelled"]
KNOWN_TYPES: tuple[str, ...] = get_args(EventType)
Sequence = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]


class PersonEvent(BaseModel):
    """One event of one source. Within a source `sequence`, else the time, decides which event is newer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: EventType
    external_id: ExternalId
    occurred_at: Moment | None = None
    """When it happened; None: when the service receives it, by the database's clock."""
    effective_at: When | None = None
    """When a deactivation takes effect; None: at once."""
    sequence: Sequence | None = None

    @property
    def deactivates(self) -> bool:
        return self.type == "user.deactivated"


class HrEventData(BaseModel):
    """The person whom an event is about. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    external_id: ExternalId
    effective_at: Annotated[
        When | None,
        Field(description="When it takes effect. A date alone: the end of that day in the organisation's time zone."),
    ] = None
    sequence: Annotated[
        Sequence | None, Field(description="Orders the events of one source. Without it, the timestamp does.")
    ] = None


class HrEvent(BaseModel):
    """The body of `POST /hooks/hr/{source}` (Standard Webhooks 1.0.0)."""

    model_config = ConfigDict(frozen=True)

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "type": "user.deactivated",
        "timestamp": "2026-03-01T08:00:00Z",
        "data": {"external_id": "4711", "effective_at": "2026-03-31"},
    }

    type: EventType
    timestamp: Moment
    data: HrEventData

    def as_person_event(self) -> PersonEvent:
        """The service's own form of this event."""
        return PersonEvent(
            type=self.type,
            external_id=self.data.external_id,
            occurred_at=self.timestamp,
            effective_at=self.data.effective_at,
            sequence=self.data.sequence,
        )
