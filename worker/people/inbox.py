"""What HR systems send: each event is committed with the hash of its body before it is answered.

One adapter a system (`worker/web/hooks/`) turns a request into `IncomingEvent`s; from here on they are alike.
"""

import hashlib
import json
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.submit import Requester
from worker.ledger import dead_letters, inbox, jobs, person_events
from worker.ledger.hr_sources import RegisteredSource
from worker.people import events
from worker.people.events import EventReceipt

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event as it came. `event`: what it says about a person; `fault`: why it cannot be read; neither: ignored."""

    key: str
    """The sender's own id of the event."""
    body: bytes
    """Its hash tells a repeated event from another one."""
    event: PersonEvent | None = None
    fault: str | None = None
    """What is wrong with it, free of personal data."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that cannot be read. It is stored as a dead letter, and its sender gets an error."""

    receipt_id: int
    fault: str


def receive(database: Database, source: RegisteredSource, incoming: IncomingEvent) -> EventReceipt | RejectedEvent:
    """Store and apply an event once: the same id and body again gets the same answer, as long as receipts are kept.

    Raises:
        IdempotencyConflictError: the id was used before, with another body.
    """
    requester = Requester(source.organisation_id, f"hr:{source.name}", f"hr:{source.name}", incoming.key)
    try:
        answer = database.run(
            lambda connection: _receive(connection, source, requester, incoming),
            patient=True,
            wait=lambda connection: _wait(connection, source.organisation_id, incoming),
        )
    except InvalidInputError as error:  # known only with the organisation's time zone and the source's policy
        return receive(database, source, replace(incoming, event=None, fault=str(error)))
    status = ReceiptStatus.INVALID if isinstance(answer, RejectedEvent) else answer.status
    log.info("hook.received", source_id=source.id, organisation_id=source.organisation_id, status=status)
    return answer


def _receive(
    connection: Connection, source: RegisteredSource, requester: Requester, incoming: IncomingEvent
) -> EventReceipt | RejectedEvent:
    body_hash = hashlib.sha256(incoming.body).digest()
    jobs.lock_settings(connection, source.organisation_id)  # so that nobody stores a receipt for this key meanwhile
    known = inbox.find_receipt(connection, source.organisation_id, requester.door, requester.key)
    if known is not None and known.request_hash == body_hash and known.dead_letter_id is not None:
        return RejectedEvent(known.id, known.fault or "invalid")
    if incoming.event is not None:
        return events.record_in(connection, requester, source.name, incoming.event, request_hash=body_hash)
    if known is not None:
        if known.request_hash != body_hash:
            raise IdempotencyConflictError("this event's id was used before, with another body")
        return EventReceipt(known.id, ReceiptStatus(known.status), known.job_id, repeated=True)
    letter_id = None if incoming.fault is None else _open_letter(connection, source, incoming)
    status = ReceiptStatus.IGNORED if letter_id is None else ReceiptStatus.INVALID
    receipt_id = inbox.insert_receipt(
        connection,
        organisation_id=source.organisation_id,
        door=requester.door,
        key=requester.key,
        request_hash=body_hash,
        status=status,
        dead_letter_id=letter_id,
    )
    return EventReceipt(receipt_id, status) if incoming.fault is None else RejectedEvent(receipt_id, incoming.fault)


def _wait(connection: Connection, organisation_id: int, incoming: IncomingEvent) -> None:
    """Wait for whoever has locked the person, while the organisation's other events go on."""
    if incoming.event is not None:
        person_events.wait_until_free(connection, organisation_id, incoming.event.external_id)


def _open_letter(connection: Connection, source: RegisteredSource, incoming: IncomingEvent) -> int:
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
