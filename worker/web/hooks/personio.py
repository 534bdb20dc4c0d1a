"""Personio webhooks: `POST /hooks/personio/{source}`.

Personio does not sign. It sends the `token` of the webhook as the value of `Authorization`, without a prefix of its own
(https://developer.personio.de/reference/post_v2-webhooks). A request carries no data; what is true is looked up
(`worker/people/hr_records/personio.py`). The person's `external_id` is Personio's person id.

The fields `company_id`, `event_name`, `occurred_at` and `payload` are from
https://developer.personio.de/v2.0/reference/webhooks. Not verified, for want of an account: where `payload` has the
person's id. `person_id` and `person.id` are taken; an event with neither becomes a dead letter.
"""

import hmac
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from worker.people.hr_records.record import find
from worker.people.inbox import IncomingEvent
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import changed, common
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/personio", tags=[common.TAG])

EVENTS = {"employment.created", "employment.updated", "employment.started", "employment.terminated"}
"""`employment.deleted` says nothing about the person: the record may have been a duplicate."""


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
async def receive_personio_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Receive a person whose employment has changed. `Authorization` is the secret; no token is needed."""
    presented = request.headers.get("authorization", "").encode()
    sender = await common.authenticate(
        context, request, "personio", source, lambda secret: hmac.compare_digest(secret.encode(), presented)
    )
    return await common.receive_all(context, sender, body, read_events)


class _Webhook(BaseModel):
    event_name: str
    occurred_at: Any = None
    payload: dict[str, Any]


def read_events(value: Any) -> list[IncomingEvent]:
    """The event of a request, if an employment has changed.

    Raises:
        ValidationError: the body is not that of a webhook.
    """
    webhook = _Webhook.model_validate(value)
    if webhook.event_name not in EVENTS:
        return []
    body = common.event_bytes(value)
    person = find(webhook.payload, "person_id")
    if person is None:
        person = find(webhook.payload, "person", "id")
    return [changed.make_change(common.digest(body), body, external_id=person, occurred_at=webhook.occurred_at)]
