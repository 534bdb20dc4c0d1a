"""BambooHR webhooks: `POST /hooks/bamboohr/{source}`.

`X-BambooHR-Signature` is the hex HMAC-SHA256 of the body followed by `X-BambooHR-Timestamp` (seconds since 1970), with
the private key that BambooHR shows when the webhook is created (https://documentation.bamboohr.com/docs/webhooks). It
must be a field-based webhook that monitors and posts Status. The person's `external_id` is BambooHR's employee id.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StrictInt, ValidationError

from schemas.jobs import ExternalId, Moment
from worker.people.inbox import IncomingEvent
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/bamboohr", tags=[common.TAG])

TYPES = {"inactive": "user.deactivated", "active": "user.reactivated"}
TOLERANCE = 300
"""Seconds by which the time of a signature may differ from now."""


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
async def receive_bamboohr_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Receive employees whose status has changed. The source signs the request; no token is needed."""
    headers = request.headers
    sender = await common.authenticate(
        context, request, "bamboohr", source,
        lambda secret: is_genuine(secret, headers, body), lambda secret: is_signed(secret, headers, body),
    )  # fmt: skip
    sent = datetime.fromtimestamp(int(headers["x-bamboohr-timestamp"]), UTC)
    return await common.receive_all(context, sender, body, lambda value: read_events(value, sent))


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is of this secret, and its time is within five minutes of now."""
    sent = headers.get("x-bamboohr-timestamp", "")
    in_time = re.fullmatch(r"[0-9]{1,12}", sent) is not None and abs(time.time() - int(sent)) <= TOLERANCE
    return is_signed(secret, headers, body) and in_time


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is of this secret, at whatever time."""
    sent, signature = headers.get("x-bamboohr-timestamp", ""), headers.get("x-bamboohr-signature", "")
    expected = hmac.new(secret.encode(), body + sent.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


class _Webhook(BaseModel):
    employees: list[dict[str, Any]]


class _Employee(BaseModel):
    id: ExternalId | StrictInt
    action: str | None = None
    timestamp: Moment | None = None
    changed: Annotated[list[str] | None, Field(alias="changedFields")] = None
    fields: dict[str, Any] = {}

    @property
    def has_a_new_status(self) -> bool:
        """Whether Status changed. It is posted too when another field, such as the job title, changed."""
        names = self.fields if self.changed is None else self.changed
        return any(name.lower() == "status" for name in names)

    @property
    def status(self) -> str:
        """In lower case; empty when it was not posted."""
        found = next((value for name, value in self.fields.items() if name.lower() == "status"), "")
        return str(found.get("value", "") if isinstance(found, dict) else found).strip().lower()


def read_events(value: Any, sent: datetime) -> list[IncomingEvent]:
    """The employees of a webhook whose status has changed; the others are not stored. `sent`: its time.

    Raises:
        ValidationError: the body is not that of a field-based webhook.
    """
    events = [_read_event(item, sent) for item in _Webhook.model_validate(value).employees]
    return [event for event in events if event is not None]


def _read_event(item: dict[str, Any], sent: datetime) -> IncomingEvent | None:
    # BambooHR's events have no id: their content and time together are the id.
    body = common.event_bytes(item if item.get("timestamp") else {**item, "timestamp": sent.isoformat()})
    key = common.digest(body)
    try:
        employee = _Employee.model_validate(item)
    except ValidationError as error:
        return IncomingEvent(key, body, fault=common.describe_faults(error))
    if employee.action == "Deleted" or not employee.has_a_new_status:
        return None  # a deleted record is not a deactivation: it may have been a duplicate
    if employee.status not in TYPES:
        return IncomingEvent(key, body, fault="fields.status: must be posted, and must be Active or Inactive")
    return common.make_event(
        key, body, type=TYPES[employee.status], external_id=str(employee.id), occurred_at=employee.timestamp or sent
    )
