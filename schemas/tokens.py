"""Bearer tokens over the wire: made, listed and revoked; the token itself is shown only once."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .approvals import Approval
from .catalogue import ROLES, Role, describe
from .jobs import Id, Note, Request, Storable


class TokenRequest(Request):
    """A token for a machine, or for a person who does not sign in with the provider."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"name": "enrolment sync", "role": "producer"}]}
    )

    name: Annotated[str, Storable, Field(max_length=100, description="Who or what uses it; recorded with its acts.")]
    role: Annotated[Role, Field(description=describe(ROLES))]
    member_id: Annotated[Id | None, Field(description="The member who will use it: it then counts as that person.")] = (
        None
    )
    note: Annotated[
        Note | None, Field(description="Why it is needed: for whoever has to approve it, and the audit.")
    ] = None


class AccessToken(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    name: str
    role: Role
    created_at: datetime
    created_by: str
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class NewAccessToken(AccessToken):
    """A new token, which is shown only once."""

    token: str


class WaitingAccessToken(BaseModel):
    """A new token, which is shown only once, and works once a second person has approved it."""

    approval: Approval
    token: str
