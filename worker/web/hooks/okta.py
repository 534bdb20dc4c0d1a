"""Okta event hooks: `/hooks/okta/{source}`.

Verified once by a challenge, then authenticated by a static `Authorization` value. An event is of a person whose
`external_id` is Okta's user id (`target.id`), which Okta's SCIM client sends as `externalId` too.
"""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field, ValidationError

from schemas.jobs import Moment
from worker.people.inbox import Incoming
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import ProblemError, describes

router = APIRouter(prefix="/hooks/okta", tags=["webhooks that come in"])

TYPES = {"user.lifecycle.deactivate": "user.deactivated", "user.lifecycle.activate": "user.reactivated"}


class Verification(BaseModel):
    """Okta's one-time check that this is the right place."""

    verification: str


@router.get("/{source}", responses=describes(400))
def verify_okta_hook(
    source: str, x_okta_verification_challenge: Annotated[str | None, Header(max_length=1000)] = None
) -> Verification:
    """Echo Okta's challenge. It says nothing about whether there is such a source; no token."""
    if x_okta_verification_challenge is None:
        raise ProblemError(400, "challenge", "The header X-Okta-Verification-Challenge is missing.")
    return Verification(verification=x_okta_verification_challenge)


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
def receive_okta_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Lifecycle events of users, several at once; each is done once by its `uuid`. Authorization is the secret."""
    presented = request.headers.get("authorization", "").encode()
    found = common.source_of(
        context, request, "okta", source, lambda secret: hmac.compare_digest(secret.encode(), presented)
    )
    return common.receive_all(context, found, body, read)


class _Data(BaseModel):
    events: list[dict[str, Any]]


class _Hook(BaseModel):
    data: _Data


class _Outcome(BaseModel):
    result: str = "SUCCESS"


class _Target(BaseModel):
    type: str | None = None
    id: Any = None


class _Event(BaseModel):
    uuid: common.Key
    type: Annotated[str, Field(alias="eventType")]
    published: Moment | None = None
    outcome: _Outcome | None = None
    target: list[_Target] | None = None


def read(value: Any) -> list[Incoming]:
    """The events of concern in a request; the others leave no trace.

    Raises:
        ValidationError: it is no event hook.
    """
    return [_read_one(item) for item in _Hook.model_validate(value).data.events if str(item.get("eventType")) in TYPES]


def _read_one(item: dict[str, Any]) -> Incoming:
    body = common.as_bytes(item)
    try:
        event = _Event.model_validate(item)
    except ValidationError as error:
        return Incoming(common.digest(body), body, fault=common.faults(error))
    if event.outcome is not None and event.outcome.result != "SUCCESS":
        return Incoming(event.uuid, body)  # it did not happen
    users = [target.id for target in event.target or [] if target.type == "User"]
    if len(users) != 1:
        return Incoming(event.uuid, body, fault="target: exactly one of type User is needed")
    return common.incoming(event.uuid, body, type=TYPES[event.type], external_id=users[0], occurred_at=event.published)
