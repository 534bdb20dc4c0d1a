"""What HR systems send: each event committed with the hash of its body before it is answered.

One adapter a system (`worker/web/hooks/`) turns a request into `Incoming` events; from here on they are alike.
"""

import hashlib
import json
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from schemas.events import PersonEvent
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.submit import Requester
from worker.ledger import dead_letters, jobs, person_events
from worker.ledger.hr_sources import Source
from worker.people import events
from worker.people.events import Receipt

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One event as it came: what it says about a person, or why it cannot be read; neither: of no concern here."""

    key: str
    """The sender's own id of the event."""
    body: bytes
    """By whose hash the same event is known again."""
    event: PersonEvent | None = None
    fault: str | None = None
    """What is wrong with it, free of personal data."""


@dataclass(frozen=True, slots=True)
class InvalidEvent:
    """It was kept for support, and is refused."""

    receipt_id: int
    fault: str


def receive(database: Database, source: Source, incoming: Incoming) -> Receipt | InvalidEvent:
    """Take an event in once: the same id and body again gets the same answer, for as long as receipts are kept.

    Raises:
        IdempotencyConflictError: the id was used before, with another body.
    """
    requester = Requester(source.organisation_id, f"hr:{source.name}", f"hr:{source.name}", incoming.key)
    try:
        answer = database.run(lambda connection: _receive(connection, source, requester, incoming), patient=True)
    except InvalidInputError as error:  # found out only with the organisation's time zone and the source's policy
        return receive(database, source, replace(incoming, event=None, fault=str(error)))
    status = "invalid" if isinstance(answer, InvalidEvent) else answer.status
    log.info("hook.received", source_id=source.id, organisation_id=source.organisation_id, status=status)
    return answer


def _receive(
    connection: Connection, source: Source, requester: Requester, incoming: Incoming
) -> Receipt | InvalidEvent:
    body_hash = hashlib.sha256(incoming.body).digest()
    jobs.lock_settings(connection, source.organisation_id)  # nobody else keeps a receipt for this key meanwhile
    known = person_events.receipt(connection, source.organisation_id, requester.door, requester.key)
    if known is not None and known.request_hash == body_hash and known.dead_letter_id is not None:
        return InvalidEvent(known.id, known.fault or "invalid")
    if incoming.event is not None:
        return events.record_in(connection, requester, source.name, incoming.event, request_hash=body_hash)
    if known is not None:
        if known.request_hash != body_hash:
            raise IdempotencyConflictError("this event's id was used before, with another body")
        return Receipt(known.status, known.job_id, known.id, repeated=True)
    letter_id = None if incoming.fault is None else _open_letter(connection, source, incoming)
    status = "ignored" if letter_id is None else "invalid"
    number = person_events.keep_receipt(
        connection,
        organisation_id=source.organisation_id,
        door=requester.door,
        key=requester.key,
        request_hash=body_hash,
        status=status,
        dead_letter_id=letter_id,
    )
    return Receipt(status, id=number) if incoming.fault is None else InvalidEvent(number, incoming.fault)


def _open_letter(connection: Connection, source: Source, incoming: Incoming) -> int:
    text = incoming.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    evidence = {"source": source.name, "event_id": incoming.key, "fault": incoming.fault, "body": text}
    kind = hashlib.sha256((incoming.fault or "").encode()).hexdigest()[:12]
    return dead_letters.open_for_event(
        connection,
        source.organisation_id,
        message=f"An event of the source {source.name} cannot be read: {incoming.fault}",
        fingerprint=f"invalid_event:{kind}",
        evidence=json.dumps(evidence),
    )
