"""Okta event hooks: `/hooks/okta/{source}`.

Verified once by a challenge, then authenticated by a static `Authorization` value. An event is of a person whose
`external_id` is Okta's user id (`target.id`), which Okta's SCIM client sends as `externalId` too.
"""

import hmac
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from worker import hooks
from worker.hooks import Incoming
from worker.web.body import HookBody, NotJsonError, parse
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
    found = common.source_of(context, "okta", source, lambda secret: hmac.compare_digest(secret.encode(), presented))
    try:
        events = _events(parse(body))
    except (NotJsonError, KeyError, TypeError):
        raise ProblemError(400, "not_json", "The body is no event hook: JSON with data.events is needed.") from None
    for event in events:
        hooks.receive(context.database, found, event)
    return Response(status_code=200)


def _events(value: Any) -> list[Incoming]:
    return [read(event) for event in value["data"]["events"] if event["eventType"] in TYPES]


def read(event: dict[str, Any]) -> Incoming:
    """The internal event; one that did not succeed at Okta is of no concern."""
    key, body = common.known_key(str(event["uuid"])), json.dumps(event, sort_keys=True).encode()
    outcome = event.get("outcome")
    if isinstance(outcome, dict) and outcome.get("result", "SUCCESS") != "SUCCESS":
        return Incoming(key, body)
    targets = event.get("target")
    users = [
        target for target in (targets if isinstance(targets, list) else [])
        if isinstance(target, dict) and target.get("type") == "User"
    ]  # fmt: skip
    if len(users) != 1:
        return Incoming(key, body, fault="target: exactly one of type User is needed")
    return common.incoming(
        key, body, type=TYPES[event["eventType"]], external_id=users[0].get("id"), occurred_at=event.get("published")
    )
