"""Finch webhooks: `POST /hooks/finch/{source}`.

`Finch-Signature` is `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`, from the headers `Finch-Event-Id` and
`Finch-Timestamp`, with the secret that Finch shows, in base64; several signatures stand with spaces between
(https://developer.tryfinch.com/developer-resources/Webhooks; Finch's library does the same:
https://github.com/Finch-API/finch-api-python, `resources/webhooks.py`). That is Standard Webhooks under other names.

An event names an individual alone; what is true is looked up (`worker/people/hr_records/finch.py`). The person's
`external_id` is Finch's individual id.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from worker.people.hr_records.record import find
from worker.people.inbox import IncomingEvent
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import changed, common, hr
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/finch", tags=[common.TAG])

EVENTS = {"employment.created", "employment.updated"}
"""`employment.deleted` says nothing about the person: the record may have been a duplicate."""
HEADERS = ("id", "timestamp", "signature")


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
async def receive_finch_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Receive an individual whose employment has changed. The source signs the request; no token is needed."""
    headers = request.headers
    sender = await common.authenticate(
        context, request, "finch", source,
        lambda secret: is_genuine(secret, headers, body), lambda secret: hr.is_signed(secret, _rename(headers), body),
    )  # fmt: skip
    key = common.check_key(headers["finch-event-id"])
    sent = datetime.fromtimestamp(int(headers["finch-timestamp"]), UTC)
    return await common.receive_all(context, sender, body, lambda value: read_events(value, key, sent))


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is of this secret, and its time is within five minutes of now."""
    return hr.is_genuine(secret, _rename(headers), body)


def _rename(headers: Mapping[str, str]) -> dict[str, str]:
    """Finch's headers under the names that Standard Webhooks gives them."""
    return {
        "webhook-id": headers.get("finch-event-id", ""),
        "webhook-timestamp": headers.get("finch-timestamp", ""),
        "webhook-signature": headers.get("finch-signature", ""),
    }


class _Webhook(BaseModel):
    event_type: str
    data: dict[str, Any] | None = None


def read_events(value: Any, key: str, sent: datetime) -> list[IncomingEvent]:
    """The event of a request, if an employment has changed. `sent`: its time; the body has none.

    Raises:
        ValidationError: the body is not that of a webhook.
    """
    webhook = _Webhook.model_validate(value)
    if webhook.event_type not in EVENTS:
        return []
    body = common.event_bytes(value)
    return [changed.make_change(key, body, external_id=find(webhook.data, "individual_id"), occurred_at=sent)]
