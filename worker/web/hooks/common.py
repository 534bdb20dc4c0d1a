"""What all HR systems share: who sends, the internal event, the answer."""

from collections.abc import Callable
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from schemas.answers import Receipt
from schemas.events import PersonEvent
from worker import hooks, sources
from worker.hooks import Incoming, InvalidEvent
from worker.ledger.sources import Source
from worker.web.context import Services
from worker.web.problems import ProblemError, problem

LONGEST_KEY = 255
NOT_JSON = "not JSON"
"""The fault of a body that is none."""


def source_of(context: Services, kind: str, called: str, genuine: Callable[[str], bool]) -> Source:
    """The source that sent a request.

    Raises:
        ProblemError: 401; one answer for an unknown source, a wrong signature and a wrong time.
    """
    found = sources.authenticate(context.database, context.settings, kind=kind, called=called, genuine=genuine)
    if found is None:
        raise ProblemError(401, "unauthorised", "The source, the signature or its time is wrong.")
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
    taken = hooks.receive(context.database, source, event)
    if isinstance(taken, InvalidEvent):
        number = str(taken.receipt_id)
        if taken.fault == NOT_JSON:
            return problem(400, "not_json", "The body is not JSON. It was kept for support.", receipt_id=number)
        return problem(422, "invalid_event", f"{taken.fault}. It was kept for support.", receipt_id=number)
    answer = Receipt(receipt_id=str(taken.id), job_id=taken.job_id, status=taken.status)
    return JSONResponse(answer.model_dump(mode="json", exclude_none=True), 200 if taken.repeated else 202)
