"""HR sources over the wire: which HR systems may send events, and what their deactivations do."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .jobs import Request, Storable

LONGEST_SECRET = 65_536
"""Characters: a publisher of security events has a document in its place."""
Secret = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_SECRET), Storable]
ApiKey = Annotated[str, StringConstraints(min_length=1, max_length=1000), Storable]
ApiUrl = Annotated[str, StringConstraints(min_length=1, max_length=2000), Storable]
_KEY = "Key of the HR system's API, for the kinds that are asked about each event: `hibob`, `personio`, `finch`."
_URL = "Address of the HR system's API. Leave it out for the usual one."
_MADE_BY_HR = "One that the HR system made. Leave it out to get a new one."
_KINDS = "`standard`, `okta`, `bamboohr`, `hibob`, `personio`, `finch` or `security-events`."
_KEEP = "Hours for which the secret before is still accepted."


OnDeactivate = Annotated[
    Literal["withdraw", "hold", "ignore"],
    Field(description="`hold`: until a second person releases it. `ignore`: withdraw nothing."),
]
GraceHours = Annotated[
    int, Field(ge=0, le=8760, description="Hours from a deactivation to the withdrawal; a reactivation cancels it.")
]


class SourceRequest(Request):
    """An HR system that may send events from now on."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"name": "workday", "kind": "standard", "on_deactivate": "withdraw"}]},
    )

    name: Annotated[str, Storable, Field(max_length=100, description="Part of the address to which it sends.")]
    kind: Annotated[str, Storable, Field(max_length=40, description=_KINDS)] = "standard"
    on_deactivate: OnDeactivate = "withdraw"
    grace_hours: GraceHours = 0
    secret: Annotated[Secret | None, Field(description=_MADE_BY_HR)] = None
    api_key: Annotated[ApiKey | None, Field(description=_KEY)] = None
    api_url: Annotated[ApiUrl | None, Field(description=_URL)] = None


class SourcePolicy(Request):
    """What the deactivations of a source do that are applied from now on."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"on_deactivate": "hold", "grace_hours": 0}]}
    )

    on_deactivate: OnDeactivate
    grace_hours: GraceHours


class ApiAccess(Request):
    """Another key for the HR system's API, which is asked about each event."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"api_key": "id:secret"}]})

    api_key: Annotated[ApiKey, Field(description=_KEY)]
    api_url: Annotated[ApiUrl | None, Field(description=_URL)] = None


class SecretRotation(Request):
    """A new secret for a source."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"keep_hours": 72}]})

    keep_hours: Annotated[int, Field(ge=0, le=8760, description=_KEEP)] = 72
    secret: Annotated[Secret | None, Field(description=_MADE_BY_HR)] = None


class RefusedRequests(BaseModel):
    """Requests that were refused lately at the address of a source. Anybody may have sent them."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    signature: int = Field(
        description="How many: their signature, or the secret that they came with, is wrong or missing."
    )
    time: int = Field(description="How many: their signature is right, and its time is too far from now.")
    since: datetime = Field(description="From when on they are counted; after a day without one the count begins anew.")
    last_at: datetime = Field(description="When the last one was refused.")


class Source(BaseModel):
    """An HR system that may send events, without its secret."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    name: str
    kind: str
    on_deactivate: str
    grace_hours: int
    created_at: datetime
    created_by: str
    previous_until: datetime | None = Field(description="Until when the secret before is accepted too.")
    rotated_at: datetime | None = Field(description="When its secret was last replaced.")
    disabled_at: datetime | None
    last_event_at: datetime | None = Field(description="When it last sent something genuine, to the minute.")
    path: str = Field(description="The path to which it sends.")
    api_url: str | None = Field(None, description="Where its API is asked, if not at the usual address.")
    refused: RefusedRequests | None = Field(
        None, description="Requests that were refused at its address, if one was within a week."
    )


class NewSource(Source):
    """A source with its new secret, which is shown only once."""

    secret: str
