"""BambooHR webhooks: `POST /hooks/bamboohr/{source}`.

`X-BambooHR-Signature` is the hex HMAC-SHA256 of the body followed by `X-BambooHR-Timestamp`, with the private key that
BambooHR shows when the webhook is made. The webhook has to monitor and post the field `status`; a person's
`external_id` is BambooHR's employee id.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from worker import hooks
from worker.hooks import Incoming
from worker.web.body import HookBody, NotJsonError, parse
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import ProblemError, describes

router = APIRouter(prefix="/hooks/bamboohr", tags=["webhooks that come in"])

TYPES = {"inactive": "user.deactivated", "active": "user.reactivated"}
TOLERANCE = 300
"""Seconds that a signature's time may be off."""


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
def receive_bamboohr_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Employees whose status has changed. Signed by its source; no token."""
    found = common.source_of(context, "bamboohr", source, lambda secret: genuine(secret, request.headers, body))
    sent = int(request.headers["x-bamboohr-timestamp"])
    try:
        employees = [item for item in parse(body)["employees"] if status_of(item) in TYPES]
        events = [read(item, sent) for item in employees]
    except (NotJsonError, KeyError, TypeError, AttributeError):
        raise ProblemError(400, "not_json", "The body is no BambooHR webhook: JSON with employees is needed.") from None
    for event in events:
        hooks.receive(context.database, found, event)
    return Response(status_code=200)


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is of this secret, and its time is within five minutes of now."""
    sent, signature = headers.get("x-bamboohr-timestamp", ""), headers.get("x-bamboohr-signature", "")
    expected = hmac.new(secret.encode(), body + sent.encode(), hashlib.sha256).hexdigest()
    right = hmac.compare_digest(expected.encode(), signature.encode())
    return right and sent.isascii() and sent.isdigit() and abs(time.time() - int(sent[:18])) <= TOLERANCE


def status_of(employee: dict[str, Any]) -> str:
    """The status that an employee has now, in small letters; empty when it was not sent."""
    status = employee["fields"].get("status", "")
    return str(status.get("value", "") if isinstance(status, dict) else status).strip().lower()


def read(employee: dict[str, Any], sent: int) -> Incoming:
    """The internal event of one employee; BambooHR gives it no id, so what it says and when is its id."""
    body = json.dumps(employee, sort_keys=True).encode()
    key = hashlib.sha256(body + (b"" if employee.get("timestamp") else str(sent).encode())).hexdigest()
    return common.incoming(
        key,
        body,
        type=TYPES[status_of(employee)],
        external_id=str(employee["id"]),
        occurred_at=employee.get("timestamp") or datetime.fromtimestamp(sent, UTC),
    )
