"""BambooHR webhooks: `POST /hooks/bamboohr/{source}`.

`X-BambooHR-Signature` is the hex HMAC-SHA256 of the body followed by `X-BambooHR-Timestamp` (seconds since 1970), with
the private key that BambooHR shows when the webhook is made (https://documentation.bamboohr.com/docs/webhooks). It has
to be a field-based webhook that monitors and posts Status; a person's `external_id` is BambooHR's employee id.
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
from worker.people.inbox import Incoming
from worker.web.body import HookBody
from worker.web.context import Context
from worker.web.hooks import common
from worker.web.problems import describes

router = APIRouter(prefix="/hooks/bamboohr", tags=["webhooks that come in"])

TYPES = {"inactive": "user.deactivated", "active": "user.reactivated"}
TOLERANCE = 300
"""Seconds that a signature's time may be off."""


@router.post("/{source}", status_code=200, response_class=Response, responses=describes(400, 413, 415))
def receive_bamboohr_events(context: Context, request: Request, source: str, body: HookBody) -> Response:
    """Employees whose status has changed. Signed by its source; no token."""
    found = common.source_of(
        context, request, "bamboohr", source, lambda secret: genuine(secret, request.headers, body)
    )
    sent = datetime.fromtimestamp(int(request.headers["x-bamboohr-timestamp"]), UTC)
    return common.receive_all(context, found, body, lambda value: read(value, sent))


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is of this secret, and its time is within five minutes of now."""
    sent, signature = headers.get("x-bamboohr-timestamp", ""), headers.get("x-bamboohr-signature", "")
    expected = hmac.new(secret.encode(), body + sent.encode(), hashlib.sha256).hexdigest()
    right = hmac.compare_digest(expected.encode(), signature.encode())
    return right and re.fullmatch(r"[0-9]{1,12}", sent) is not None and abs(time.time() - int(sent)) <= TOLERANCE


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
        """An employee whose title changed is posted with their status too, and has not come back by that."""
        names = self.fields if self.changed is None else self.changed
        return any(name.lower() == "status" for name in names)

    @property
    def status(self) -> str:
        """In small letters; empty when it was not posted."""
        found = next((value for name, value in self.fields.items() if name.lower() == "status"), "")
        return str(found.get("value", "") if isinstance(found, dict) else found).strip().lower()


def read(value: Any, sent: datetime) -> list[Incoming]:
    """The employees of concern in a webhook that was sent at `sent`; the others leave no trace.

    Raises:
        ValidationError: it is no field-based webhook.
    """
    events = [_read_one(item, sent) for item in _Webhook.model_validate(value).employees]
    return [event for event in events if event is not None]


def _read_one(item: dict[str, Any], sent: datetime) -> Incoming | None:
    # BambooHR gives an event no id: what it says and when is its id.
    body = common.as_bytes(item if item.get("timestamp") else {**item, "timestamp": sent.isoformat()})
    key = common.digest(body)
    try:
        employee = _Employee.model_validate(item)
    except ValidationError as error:
        return Incoming(key, body, fault=common.faults(error))
    if employee.action == "Deleted" or not employee.has_a_new_status:
        return None  # whose record is deleted has not left: it may have been made twice
    if employee.status not in TYPES:
        return Incoming(key, body, fault="fields.status: has to be posted, and to be Active or Inactive")
    return common.incoming(
        key, body, type=TYPES[employee.status], external_id=str(employee.id), occurred_at=employee.timestamp or sent
    )
