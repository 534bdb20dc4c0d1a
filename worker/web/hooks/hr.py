"""HR systems that speak Standard Webhooks 1.0.0: `POST /hooks/hr/{source}`.

Order: size cap, signature over the raw bytes, time, parse, one committed row, answer.
"""

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from math import floor
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import hmac_data

from schemas.answers import Receipt
from schemas.events import KNOWN_TYPES, HrEvent
from worker.people.inbox import IncomingEvent
from worker.web.body import HookBody, NotJsonError, parse
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/hr", tags=[common.TAG])


@router.post(
    "/{source}",
    status_code=202,
    response_model=Receipt,
    responses={
        200: {"model": Receipt, "description": "The event was received before: the same receipt."},
        **describes(400, 409, 413, 415),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": HrEvent.model_json_schema(), "example": HrEvent.EXAMPLE}},
        },
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
    },
)
async def receive_hr_event(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Receive one event about a person. The source signs it; no token is needed."""
    sender = await common.authenticate(
        context, request, "standard", source, lambda secret: is_genuine(secret, request.headers, body)
    )
    key = common.check_key(request.headers["webhook-id"])
    return await common.receive(context, sender, read_event(key, body))


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is of this secret, and its time is within five minutes of now."""
    signatures = _SIGNATURE.findall(headers.get("webhook-signature", ""))  # leaves out the malformed ones
    try:
        _OverBytes(secret).verify(
            body.decode("latin-1"), {**headers, "webhook-signature": " ".join(signatures)}, json_parse=False
        )
    except (WebhookVerificationError, ValueError):  # the library raises a bare ValueError for wrong base64
        return False
    return True


_SIGNATURE = re.compile(r"(?<!\S)v1,[A-Za-z0-9+/]+={0,2}(?!\S)")


class _OverBytes(Webhook):
    """The library signs text, encoded as UTF-8. A body may have bytes that are not UTF-8; Latin-1 keeps them."""

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        signed = f"{msg_id}.{floor(timestamp.timestamp())}.".encode() + data.encode("latin-1")
        return "v1," + base64.b64encode(hmac_data(self._whsecret, signed)).decode()


class _Envelope(BaseModel):
    """Only the type, which decides whether the rest has to be valid."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, StringConstraints(min_length=1)]


def read_event(key: str, body: bytes) -> IncomingEvent:
    """The event in a body whose signature was checked. An unknown type is ignored."""
    try:
        value: Any = parse(body)
    except NotJsonError:
        return IncomingEvent(key, body, fault=common.NOT_JSON)
    try:
        if _Envelope.model_validate(value).type not in KNOWN_TYPES:
            return IncomingEvent(key, body)
        event = HrEvent.model_validate(value)
    except ValidationError as error:
        return IncomingEvent(key, body, fault=common.describe_faults(error))
    return IncomingEvent(key, body, event=event.as_person_event())
