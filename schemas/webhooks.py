"""Outgoing webhooks: which events an organisation can be sent, and how it asks for them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .jobs import Request

Event = Literal[
    "job.completed",
    "job.held",
    "dead_letter.opened",
    "dead_letter.overdue",
    "enrolment.withdrawn",
    "enrolment.reinstated",
    "enrolment.kept",
]
"""Those of enrolments are sent as batches of the feed."""


class EndpointRequest(Request):
    """A new endpoint: an address to send events to."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"url": "https://help.example/hooks", "events": ["dead_letter.opened"]}]},
    )

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    events: Annotated[list[Event], Field(min_length=1, max_length=10)]


class Endpoint(BaseModel):
    """An address that events are sent to. Its secret is shown only once, when the endpoint is created."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    url: str
    events: list[str]
    failures: Annotated[int, Field(description="Failed attempts in a row.")]
    rest_until: Annotated[datetime | None, Field(description="Nothing is sent before this time.")]
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    disabled_because: str | None
    feed_cursor: Annotated[
        str | None, Field(description="The place in the feed up to which everything arrived; null: it does not follow.")
    ] = None
    failing_since: Annotated[datetime | None, Field(description="Since when its batches have failed.")] = None
    paused_at: Annotated[datetime | None, Field(description="Nothing is sent since then; what happens waits.")] = None
    paused_because: str | None = None
    previous_until: Annotated[
        datetime | None, Field(description="Until when events bear the signature of the secret before, too.")
    ] = None
    rotated_at: Annotated[datetime | None, Field(description="When its secret was last replaced.")] = None


class ResumeRequest(Request):
    """That a webhook goes on; from where it gets batches of the feed again."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{}, {"after": "7.0.1767225600000000"}]}
    )

    after: Annotated[
        str | None,
        Field(max_length=60, description="A cursor of the feed, or `latest`. Leave it out to go on where it was."),
    ] = None


class WebhookRotation(Request):
    """A new secret for a webhook."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"keep_hours": 24}]})

    keep_hours: Annotated[
        int, Field(ge=0, le=8760, description="Hours for which events are signed with the secret before, too.")
    ] = 24


class NewEndpoint(Endpoint):
    """A new endpoint with the secret that signs its events."""

    secret: str


class Delivery(BaseModel):
    """One event for one endpoint. Its `webhook-id` is `msg_` and the id."""

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
