"""What all HR systems share: authentication of the source, the internal event, the answer."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import Request, Response
from pydantic import StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool

from schemas.answers import Receipt
from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from schemas.jobs import Storable
from worker.access import last_used
from worker.access.memory import NEEDS_DATABASE
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.ledger.hr_sources import RegisteredSource, record_events
from worker.people import inbox, source_requests
from worker.people.events import EventReceipt
from worker.people.inbox import Answer, IncomingEvent, RejectedEvent
from worker.telemetry import metrics
from worker.web.auth import limit_refusals
from worker.web.body import NotJsonError, parse
from worker.web.context import Services
from worker.web.problems import ProblemError, join_faults, list_faults, problem

log = structlog.get_logger(__name__)

TAG = "HR events"
MAX_KEY_LENGTH = 255
Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_LENGTH), Storable]
"""The sender's id of an event."""
NOT_JSON = "not JSON"
"""The fault of a body that is not JSON."""


async def authenticate(
    context: Services,
    request: Request,
    kind: str,
    called: str,
    genuine: Callable[[str], bool],
    mistimed: Callable[[str], bool] = lambda _: False,
) -> RegisteredSource:
    """The source that sent a request. `genuine`: whether the request was made with this secret, in time.

    `mistimed`: whether it was made with this secret, at another time.

    A source is not limited: HR systems do not repeat an event that was refused for volume.

    Raises:
        ProblemError: 401, with one answer for an unknown source, a wrong signature and a wrong time; 429 for an
            address with too many refused requests.
    """
    known = source_requests.recall(context.door, kind=kind, called=called, genuine=genuine)
    if known is not NEEDS_DATABASE:
        source = known
    else:
        ask = partial(source_requests.authenticate, context.door, context.settings, kind=kind, called=called)
        source = await context.at_the_door(partial(ask, genuine=genuine, mistimed=mistimed))
    if source is None:
        await run_in_threadpool(limit_refusals, context, request)
        raise ProblemError(401, "unauthorised", "The source, the signature or its time is wrong.")
    return source


def make_event(key: str, body: bytes, **fields: Any) -> IncomingEvent:
    """The internal event from the fields of `PersonEvent`, or its fault."""
    try:
        return IncomingEvent(key, body, event=PersonEvent.model_validate(fields))
    except ValidationError as error:
        return IncomingEvent(key, body, fault=describe_faults(error))


def describe_faults(error: ValidationError) -> str:
    """Which fields are wrong and why; values are not quoted."""
    return join_faults(list_faults(error.errors(include_url=False, include_context=False, include_input=False)))


def check_key(key: str) -> str:
    """The sender's id of an event.

    Raises:
        ProblemError: 400, it is empty or too long to be stored.
    """
    if not key or len(key) > MAX_KEY_LENGTH:
        raise ProblemError(400, "event_id", f"The event's id must have 1 to {MAX_KEY_LENGTH} characters.")
    return key


async def receive(context: Services, source: RegisteredSource, event: IncomingEvent) -> Response:
    """Store one event, and answer with its receipt or with what is wrong with it."""
    stored = await store(context, source, event)
    if isinstance(stored, RejectedEvent):
        receipt_id = str(stored.receipt_id)
        if stored.fault == NOT_JSON:
            return problem(400, "not_json", "The body is not JSON. Support has a copy.", receipt_id=receipt_id)
        return problem(422, "invalid_event", f"{stored.fault}. Support has a copy.", receipt_id=receipt_id)
    answer = Receipt(receipt_id=str(stored.id), job_id=stored.job_id, status=stored.status)
    content = answer.model_dump_json(exclude_none=True)
    return Response(content, 200 if stored.repeated else 202, media_type="application/json")


async def receive_all(
    context: Services, source: RegisteredSource, body: bytes, read: Callable[[Any], list[IncomingEvent]]
) -> Response:
    """Store a request's events about several persons, each once by its own id; the answer is empty.

    `read` may raise ValidationError when the whole body is wrong: then it becomes a dead letter. An event that
    is wrong, or that reuses an id for another content, does not keep the others out.
    """
    try:
        events = read(parse(body))
    except (NotJsonError, RecursionError):  # a nesting that `parse` allows may be too deep for `event_bytes`
        return await receive(context, source, IncomingEvent(digest(body), body, fault=NOT_JSON))
    except ValidationError as error:
        return await receive(context, source, IncomingEvent(digest(body), body, fault=describe_faults(error)))
    stored = await asyncio.gather(*(store(context, source, event) for event in events), return_exceptions=True)
    for found in stored:
        if isinstance(found, IdempotencyConflictError):
            log.warning("hook.event_id_reused", source_id=source.id, organisation_id=source.organisation_id)
        elif isinstance(found, BaseException):
            raise found
    return Response(status_code=200)


async def store(context: Services, source: RegisteredSource, event: IncomingEvent) -> Answer:
    """Commit one event, together with those that come at the same time. One that is wrong goes a way of its own.

    Raises:
        IdempotencyConflictError: the id was used before, with another body.
    """
    if event.fault is None:
        try:
            stored = await context.inbox.commit(source, event)
        except InvalidInputError as error:
            event = replace(event, event=None, fault=str(error))
    if event.fault is not None:
        stored = await context.at_the_door(inbox.reject, context.door, source, event)
    status = ReceiptStatus.INVALID if isinstance(stored, RejectedEvent) else stored.status
    again = isinstance(stored, EventReceipt) and stored.repeated
    last_used.note(context.door, record_events, source.id)
    metrics.EVENTS.labels(source.kind, "repeated" if again else status).inc()
    log.info("hook.received", source_id=source.id, organisation_id=source.organisation_id, status=status)
    return stored


def event_bytes(item: Any) -> bytes:
    """One event of a request as bytes: the same whatever else the request carried."""
    return json.dumps(item, sort_keys=True).encode()


def digest(body: bytes) -> str:
    """The id of an event that has none: the same content is the same event."""
    return hashlib.sha256(body).hexdigest()
