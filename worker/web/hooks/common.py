"""What all HR systems share: who sends, the internal event, the answer."""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import StringConstraints, ValidationError

from schemas.answers import Receipt
from schemas.events import PersonEvent
from schemas.jobs import Storable
from worker.errors import IdempotencyConflictError
from worker.ledger.hr_sources import Source
from worker.people import hr_sources, inbox
from worker.people.inbox import Incoming, InvalidEvent
from worker.web.auth import limit, limit_refusals
from worker.web.body import NotJsonError, parse
from worker.web.context import Services
from worker.web.problems import ProblemError, problem

log = structlog.get_logger(__name__)

LONGEST_KEY = 255
Key = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_KEY), Storable]
"""The sender's id of an event."""
NOT_JSON = "not JSON"
"""The fault of a body that is none."""


def source_of(context: Services, request: Request, kind: str, called: str, genuine: Callable[[str], bool]) -> Source:
    """The source that sent a request.

    Raises:
        ProblemError: 401; one answer for an unknown source, a wrong signature and a wrong time. 429 for a source
            that sends too often, and for an address with too many requests that were not let in.
    """
    found = hr_sources.authenticate(context.database, context.settings, kind=kind, called=called, genuine=genuine)
    if found is None:
        limit_refusals(context, request)
        raise ProblemError(401, "unauthorised", "The source, the signature or its time is wrong.")
    limit(context, f"source:{found.id}", context.settings.rate_limit)
    return found


def incoming(key: str, body: bytes, **event: Any) -> Incoming:
    """The internal event, or what is wrong with it, said without quoting it."""
    try:
        return Incoming(key, body, event=PersonEvent.model_validate(event))
    except ValidationError as error:
        return Incoming(key, body, fault=faults(error))


def faults(error: ValidationError) -> str:
    """Which fields are wrong and how; values are not quoted."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{field_name(item['loc'])}: {item['msg'].removeprefix('Value error, ')}" for item in found)


def field_name(location: tuple[int | str, ...]) -> str:
    """`data.external_id`; the names of validators inside a union are left out."""
    return ".".join(str(part) for part in location if not str(part).startswith(("function-", "datetime", "date")))


def known_key(key: str) -> str:
    """The sender's id of an event, if it can be kept.

    Raises:
        ProblemError: 400.
    """
    if not key or len(key) > LONGEST_KEY:
        raise ProblemError(400, "event_id", f"The event's id must have 1 to {LONGEST_KEY} characters.")
    return key


def receive(context: Services, source: Source, event: Incoming) -> Response:
    """Take one event in; its answer as the contract's table has it."""
    taken = inbox.receive(context.database, source, event)
    if isinstance(taken, InvalidEvent):
        number = str(taken.receipt_id)
        if taken.fault == NOT_JSON:
            return problem(400, "not_json", "The body is not JSON. It was kept for support.", receipt_id=number)
        return problem(422, "invalid_event", f"{taken.fault}. It was kept for support.", receipt_id=number)
    answer = Receipt(receipt_id=str(taken.id), job_id=taken.job_id, status=taken.status)
    return JSONResponse(answer.model_dump(mode="json", exclude_none=True), 200 if taken.repeated else 202)


def receive_all(context: Services, source: Source, body: bytes, read: Callable[[Any], list[Incoming]]) -> Response:
    """Take in what a request says of several persons, each event once by its own id; the answer is empty.

    `read` may raise ValidationError: the whole body is not what it should be, and is kept for support. One event
    that is wrong, or whose id was used before with another content, keeps no other from being taken in.
    """
    try:
        events = read(parse(body))
    except (NotJsonError, RecursionError):  # what can just be parsed may be nested too deeply to be written again
        return receive(context, source, Incoming(digest(body), body, fault=NOT_JSON))
    except ValidationError as error:
        return receive(context, source, Incoming(digest(body), body, fault=faults(error)))
    for event in events:
        try:
            inbox.receive(context.database, source, event)
        except IdempotencyConflictError:
            log.warning("hook.event_id_reused", source_id=source.id, organisation_id=source.organisation_id)
    return Response(status_code=200)


def as_bytes(item: Any) -> bytes:
    """One event of several, by which it is known again whatever came with it."""
    return json.dumps(item, sort_keys=True).encode()


def digest(body: bytes) -> str:
    """The id of what has none: the same content is the same event."""
    return hashlib.sha256(body).hexdigest()
