"""HiBob webhooks, version 2: `POST /hooks/hibob/{source}`.

`Bob-Signature` is the base64 HMAC-SHA512 of the body with the webhook's secret
(https://apidocs.hibob.com/docs/working-with-webhooks). There is no time in it, so an old request can be sent again: it
is one event by its content, and what is true is looked up (`worker/people/hr_records/hibob.py`). The person's
`external_id` is HiBob's employee id (`data.employeeId`).

When a webhook is made, HiBob sends `"Ping test"`, or `{"text": "Ping test"}`, and expects 200 (the same page). Whether
it signs this is not said there. It is answered to everybody: it tells nothing, and nothing is stored.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from worker.people.inbox import IncomingEvent
from worker.web.body import read
from worker.web.context import Context
from worker.web.hooks import changed, common
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/hibob", tags=[common.TAG])

PINGS = (b"Ping test", b'"Ping test"')
LIFECYCLE = {"employee.left", "employee.joined", "employee.activated", "employee.inactivated", "employee.updated"}
"""What may mean that somebody leaves, or does not leave after all. A deleted record says nothing about the person."""
TABLES = {"table.entry.created", "table.entry.updated"}
"""Of the table `lifecycle` alone."""


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413))
async def receive_hibob_events(context: Context, request: Request, source: str) -> Response:
    """Receive an employee whose record has changed. The source signs the request; no token is needed."""
    body = await read(request)
    if is_ping(body):
        return Response(status_code=200)
    sender = await common.authenticate(
        context, request, "hibob", source, lambda secret: is_genuine(secret, request.headers, body)
    )
    return await common.receive_all(context, sender, body, read_events)


def is_ping(body: bytes) -> bool:
    """Whether this is HiBob's test of the address."""
    try:
        return body.strip() in PINGS or (len(body) < 100 and json.loads(body) == {"text": "Ping test"})
    except (ValueError, RecursionError):
        return False


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is of this secret."""
    expected = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha512).digest())
    return hmac.compare_digest(expected, headers.get("bob-signature", "").encode())


class _Webhook(BaseModel):
    type: str
    triggeredAt: Any = None  # noqa: N815 - HiBob's name
    data: dict[str, Any]


def read_events(value: Any) -> list[IncomingEvent]:
    """The event of a request, if somebody's lifecycle may have changed.

    Raises:
        ValidationError: the body is not that of a webhook of version 2.
    """
    webhook = _Webhook.model_validate(value)
    is_table = webhook.type in TABLES and webhook.data.get("tableId") == "lifecycle"
    if webhook.type not in LIFECYCLE and not is_table:
        return []
    body = common.event_bytes(value)
    return [
        changed.make_change(
            common.digest(body), body, external_id=webhook.data.get("employeeId"), occurred_at=webhook.triggeredAt
        )
    ]
