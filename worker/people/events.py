"""Events about persons that are applied at once: those of the command line and of SCIM, and of other producers.

The events of HR systems wait in the inbox (`inbox.py`). Both are applied by the same rules (`newest_events.py`).
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from worker.access import erased
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.calendar import effective_time
from worker.jobs.submit import Requester
from worker.ledger import due_deactivations, inbox, jobs, person_events
from worker.people.apply_events import REUSED, apply_events
from worker.people.due import DueDeactivations
from worker.people.newest_events import EventResult, lock_people
from worker.records import ArrivedEvent, StoredEvent
from worker.telemetry import request, tracing
from worker.texts import text

log = structlog.get_logger(__name__)

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""Maximum tolerated clock skew of a sender. An event dated later would stay the newest, and outrank all that follow."""
AHEAD = text("timestamp: is in the future; to let an event take effect later, set effective_at")


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """What was answered to an event; `job_id` where it submitted a job."""

    id: int
    status: ReceiptStatus
    job_id: int | None = None
    repeated: bool = False
    """The same event was answered before, so nothing was done now."""


def record(database: Database, requester: Requester, source: str, event: PersonEvent) -> EventReceipt:
    """Record an event of `source`, and submit or void the person's job.

    Raises:
        IdempotencyConflictError: the key was used for another event.
        InvalidInputError: a time of the event is not possible.
        ErasedPersonError: the person was erased.
    """
    receipt = database.run(
        partial(record_in, requester=requester, source=source, event=event),
        patient=True,
        wait=partial(
            person_events.wait_until_free,
            organisation_id=requester.organisation_id,
            external_id=event.external_id,
        ),
    )
    log.info(
        "event.recorded", organisation_id=requester.organisation_id, type=event.type, status=receipt.status,
        job_id=receipt.job_id,
    )  # fmt: skip
    return receipt


def record_in(
    connection: Connection,
    requester: Requester,
    source: str,
    event: PersonEvent,
    *,
    request_hash: bytes | None = None,
) -> EventReceipt:
    """`record` in the caller's transaction. From then on the key gets the same receipt.

    `request_hash`: tells a repeated request from another one; None: the hash of the event's fields.
    """
    organisation_id = requester.organisation_id
    sealed_key = jobs.lock_settings(connection, organisation_id)  # first: a deactivation is admitted under it
    request_hash = request_hash or _digest(source, event)
    known = inbox.find_receipt(connection, organisation_id, requester.door, requester.key)
    if known is not None:
        if known.request_hash != request_hash:
            raise IdempotencyConflictError(REUSED)
        return EventReceipt(known.id, ReceiptStatus(known.status), known.job_id, repeated=True)
    if jobs.find_by_key(connection, organisation_id=organisation_id, door=requester.door, key=requester.key):
        raise IdempotencyConflictError(REUSED)  # by a job of another command through the same door
    erased.require_not(connection, organisation_id, event.external_id, sealed_key)
    result = _apply(connection, requester, source, event, request_hash)
    receipt_id = inbox.insert_receipt(
        connection,
        organisation_id=organisation_id,
        door=requester.door,
        key=requester.key,
        request_hash=request_hash,
        status=result.status,
        job_id=result.job_id,
    )
    if receipt_id is None:
        raise IdempotencyConflictError(REUSED)  # by an event in the inbox that committed meanwhile
    return EventReceipt(receipt_id, result.status, result.job_id)


def _apply(
    connection: Connection, requester: Requester, source: str, event: PersonEvent, request_hash: bytes
) -> EventResult:
    """Apply one event at once: a set of one. Raises the driver's `LockNotAvailable` when somebody holds the person."""
    organisation_id, external_id = requester.organisation_id, event.external_id
    people = lock_people(connection, organisation_id, [external_id], skip_taken=False)
    now = jobs.database_now(connection)
    if event.occurred_at is not None and event.occurred_at > now + MAX_CLOCK_SKEW:
        raise InvalidInputError(AHEAD)
    stored = StoredEvent(
        source=source,
        type=event.type,
        sequence=event.sequence,
        occurred_at=event.occurred_at or now,
        effective_at=effective_time(connection, organisation_id, event.effective_at)
        or min(event.occurred_at or now, now),
    )
    arrived = ArrivedEvent(
        external_id,
        stored,
        now,
        requester.actor,
        requester.door,
        requester.key,
        request_hash,
        request.current(),
        tracing.current(),
    )
    return apply_events(connection, organisation_id, [arrived], people, now)[external_id]


def _digest(source: str, event: PersonEvent) -> bytes:
    body = [source, event.model_dump(mode="json", exclude_unset=True)]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def deactivate_due(database: Database, found: DueDeactivations | None = None) -> int:
    """Make learners inactive whose deactivation is due, whatever happened to their job; returns how many.

    `found`: how far the rounds before have looked; None: this is the first.
    """
    with database.begin() as connection:
        due = (found or DueDeactivations()).list_known(connection)
    return sum(database.run_each(due, _deactivate_learner, step="person.deactivate"))


def _deactivate_learner(connection: Connection, person: tuple[int, str]) -> bool:
    if not due_deactivations.lock_due_deactivation(connection, *person):
        return False
    return person_events.sync_learner(connection, *person, was_active=True)
