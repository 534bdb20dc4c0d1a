"""Webhooks that go out: what an organisation can be told, and how it asks for it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Event = Literal["job.completed", "job.held", "dead_letter.opened", "dead_letter.overdue"]


class EndpointRequest(BaseModel):
    """An address that wants to be told."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"url": "https://help.example/hooks", "events": ["dead_letter.opened"]}]},
    )

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    events: Annotated[list[Event], Field(min_length=1, max_length=10)]


class Endpoint(BaseModel):
    """An address that is told; its secret is shown once, when it is made."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    url: str
    events: list[str]
    failures: Annotated[int, Field(description="Attempts in a row that failed.")]
    rest_until: Annotated[datetime | None, Field(description="Nothing is sent before.")]
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    disabled_because: str | None


class NewEndpoint(Endpoint):
    """A new endpoint with the secret that signs what it is sent."""

    secret: str


class Delivery(BaseModel):
    """One event on its way to one endpoint; `webhook-id` is `msg_` and its id."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    endpoint_id: int
    type: str
    data: dict[str, Any]
    state: str
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
