"""Okta event hooks: `/hooks/okta/{source}`.

Okta verifies the hook once by a challenge, then authenticates by a static `Authorization` value. The person's
`external_id` is Okta's user id (`target.id`), which Okta's SCIM client sends as `externalId` too.
"""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field, ValidationError

from schemas.jobs import Moment
from worker.people.inbox import IncomingEvent
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import ProblemError, describes

router = APIRouter(prefix="/hooks/okta", tags=[common.TAG])

TYPES = {"user.lifecycle.deactivate": "user.deactivated", "user.lifecycle.activate": "user.reactivated"}


class Verification(BaseModel):
    """The answer to Okta's one-time check of the address."""

    verification: str


@router.get("/{source}", responses=describes(400))
def verify_okta_hook(
    source: str, x_okta_verification_challenge: Annotated[str | None, Header(max_length=1000)] = None
) -> Verification:
    """Echo Okta's challenge. The answer does not tell whether the source exists; no token is needed."""
    if x_okta_verification_challenge is None:
        raise ProblemError(400, "challenge", "The header X-Okta-Verification-Challenge is missing.")
    return Verification(verification=x_okta_verification_challenge)


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
async def receive_okta_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Receive lifecycle events of users, each once by its `uuid`. `Authorization` is the secret; no token is needed."""
    presented = request.headers.get("authorization", "").encode()
    sender = await common.authenticate(
        context, request, "okta", source, lambda secret: hmac.compare_digest(secret.encode(), presented)
    )
    return await common.receive_all(context, sender, body, read_events)


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


def read_events(value: Any) -> list[IncomingEvent]:
    """The events of a request that activate or deactivate a user; the others are not stored.

    Raises:
        ValidationError: the body is not that of an event hook.
    """
    return [
        _read_event(item) for item in _Hook.model_validate(value).data.events if str(item.get("eventType")) in TYPES
    ]


def _read_event(item: dict[str, Any]) -> IncomingEvent:
    body = common.event_bytes(item)
    try:
        event = _Event.model_validate(item)
    except ValidationError as error:
        return IncomingEvent(common.digest(body), body, fault=common.describe_faults(error))
    if event.outcome is not None and event.outcome.result != "SUCCESS":
        return IncomingEvent(event.uuid, body)  # Okta tried it without success: ignored
    users = [target.id for target in event.target or [] if target.type == "User"]
    if len(users) != 1:
        return IncomingEvent(event.uuid, body, fault="target: must have exactly one entry of type User")
    return common.make_event(
        event.uuid, body, type=TYPES[event.type], external_id=users[0], occurred_at=event.published
    )
