"""HR systems that speak Standard Webhooks 1.0.0: `POST /hooks/hr/{source}`.

Order: size cap, signature over the raw bytes, time, parse, one committed row, answer.
"""

import base64
import hmac
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from schemas.answers import Receipt
from schemas.events import KNOWN_TYPES, HrEvent
from worker.people.inbox import IncomingEvent
from worker.web.body import NotJsonError, parse, read_json
from worker.web.context import find_services
from worker.web.hooks import common
from worker.web.lean import LeanRoute, path_parameter
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/hr", tags=[common.TAG], route_class=LeanRoute)

TOLERANCE = 300
"""Seconds by which the time of a signature may differ from now."""


@router.post(
    "/{source}",
    operation_id="receive_hr_event",
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
            path_parameter("source"),
            *(
                {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
                for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
            ),
        ],
    },
)
async def receive_hr_event(request: Request) -> Response:
    """Receive one event about a person. The source signs it; no token is needed."""
    context, body, headers = find_services(request), await read_json(request), request.headers
    sender = await common.authenticate(
        context, request, "standard", request.path_params["source"],
        lambda secret: is_genuine(secret, headers, body), lambda secret: is_signed(secret, headers, body),
    )  # fmt: skip
    key = common.check_key(headers["webhook-id"])
    return await common.receive(context, sender, read_event(key, body))


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is of this secret, and its time is within five minutes of now.

    Standard Webhooks 1.0.0, "Verifying webhook authenticity". Its library does the same for ten times the cost, and
    only for a body that is UTF-8; a test compares both.
    """
    key, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not key or _SECONDS.fullmatch(sent) is None or abs(time.time() - int(sent)) > TOLERANCE:
        return False
    return is_signed(secret, headers, body)


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is of this secret, at whatever time."""
    key, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    opened = base64.b64decode(secret.removeprefix("whsec_") + "==")  # more padding than needed does no harm
    # `hmac.digest` would be as quick, but lets another thread run first, each time.
    expected = hmac.new(opened, f"{key}.{sent}.".encode() + body, "sha256").digest()
    given = _SIGNATURE.findall(headers.get("webhook-signature", ""))  # leaves out the malformed ones
    return any(hmac.compare_digest(expected, _decode(one)) for one in given)


_SECONDS = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"(?<!\S)v1,([A-Za-z0-9+/]+={0,2})(?!\S)")


def _decode(signature: str) -> bytes:
    try:
        return base64.b64decode(signature)
    except ValueError:  # a length that base64 cannot have
        return b""


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
        known = isinstance(value, dict) and value.get("type") in KNOWN_TYPES
        if not known and _Envelope.model_validate(value):
            return IncomingEvent(key, body)
        event = HrEvent.model_validate(value)
    except ValidationError as error:
        return IncomingEvent(key, body, fault=common.describe_faults(error))
    return IncomingEvent(key, body, event=event.as_person_event())
