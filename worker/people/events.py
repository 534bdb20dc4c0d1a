"""Events about persons, applied in their own order, whatever order they arrive in.

The newest event decides (DESIGN.md §2, Persons). An event that becomes the newest voids what an older one
had asked for and is not yet applied; if it deactivates, it submits a job of its own.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.calendar import effective_time
from worker.jobs.submit import Requester, accept_deactivation, deactivation
from worker.ledger import claims, hr_sources, inbox, jobs, person_events
from worker.ledger.person_events import StoredEvent
from worker.people.due import DueDeactivations

log = structlog.get_logger(__name__)

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""Maximum tolerated clock skew of a sender. An event dated later would stay the newest, and outrank all that follow."""


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
    """
    receipt = database.run(lambda connection: record_in(connection, requester, source, event), patient=True)
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
    jobs.lock_settings(connection, organisation_id)  # first: a deactivation is admitted under it
    request_hash = request_hash or _digest(source, event)
    known = inbox.find_receipt(connection, organisation_id, requester.door, requester.key)
    if known is not None:
        if known.request_hash != request_hash:
            raise IdempotencyConflictError(_REUSED)
        return EventReceipt(known.id, ReceiptStatus(known.status), known.job_id, repeated=True)
    if jobs.find_by_key(connection, organisation_id=organisation_id, door=requester.door, key=requester.key):
        raise IdempotencyConflictError(_REUSED)  # by a job of another command through the same door
    status, job_id = _apply(connection, requester, source, event, request_hash)
    receipt_id = inbox.insert_receipt(
        connection,
        organisation_id=organisation_id,
        door=requester.door,
        key=requester.key,
        request_hash=request_hash,
        status=status,
        job_id=job_id,
    )
    return EventReceipt(receipt_id, status, job_id)


_REUSED = "this key was used before, for another request; use a new key for a new request"


def _apply(
    connection: Connection, requester: Requester, source: str, event: PersonEvent, request_hash: bytes
) -> tuple[ReceiptStatus, int | None]:
    """Store the event; if it is the newest of all, change the person's state. The status, and the new job."""
    organisation_id, external_id = requester.organisation_id, event.external_id
    person = person_events.lock(connection, organisation_id, external_id)
    before = person_events.find_newest_event(connection, organisation_id, external_id)
    now = jobs.database_now(connection)
    if event.occurred_at is not None and event.occurred_at > now + MAX_CLOCK_SKEW:
        raise InvalidInputError("timestamp: is in the future; to let an event take effect later, set effective_at")
    stored = StoredEvent(
        source=source,
        type=event.type,
        sequence=event.sequence,
        occurred_at=event.occurred_at or now,
        effective_at=effective_time(connection, organisation_id, event.effective_at) or now,
    )
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=requester.actor,
        action=event.type,
        detail=json.dumps({"source": source, "external_id": external_id}),
    )
    if not person_events.record_event(connection, organisation_id, external_id, stored):
        return ReceiptStatus.IGNORED, None
    newest = person_events.find_newest_event(connection, organisation_id, external_id)
    if newest is None or newest == before:
        return ReceiptStatus.IGNORED, None
    return _change_state(connection, requester, external_id, newest, request_hash, now, was_active=person.active)


def _change_state(
    connection: Connection,
    requester: Requester,
    external_id: str,
    newest: StoredEvent,
    request_hash: bytes,
    now: datetime,
    *,
    was_active: bool,
) -> tuple[ReceiptStatus, int | None]:
    """Let the new newest event replace what older ones had asked for."""
    organisation_id = requester.organisation_id
    deactivates = newest.type == "user.deactivated"
    epoch = person_events.set_person_state(
        connection, organisation_id, external_id, active=not deactivates, effective_at=newest.effective_at
    )
    voided = claims.close_superseded_person(
        connection, organisation_id=organisation_id, external_id=external_id, epoch=epoch
    )
    voided_until = jobs.scheduled_for(connection, voided, door=requester.door)
    jobs.finish(connection, voided)
    person_events.sync_learner(connection, organisation_id, external_id, was_active=was_active)
    if not deactivates:
        return ReceiptStatus.REACTIVATED, None
    policy = hr_sources.find_policy(connection, organisation_id, newest.source)
    if policy.on_deactivate == "ignore":
        return ReceiptStatus.NOTED, None
    # The grace period starts now at the earliest: nobody could have taken back what took effect in the past.
    effective_at = _add_grace(max(newest.effective_at, now), policy.grace)
    if newest.effective_at <= now and voided_until is not None:
        effective_at = min(effective_at, voided_until)  # the same deactivation sent every night must not postpone it
    is_due = effective_at <= now
    new = deactivation(
        requester,
        external_id,
        epoch=epoch,
        effective_at=None if is_due else effective_at,
        request_hash=request_hash,
    )
    inserted = accept_deactivation(connection, new, hold=policy.on_deactivate == "hold")
    if inserted is None:
        raise IdempotencyConflictError(_REUSED)  # by a job of another command that committed meanwhile
    jobs.notify(connection)
    job_id, held = inserted
    if held:
        return ReceiptStatus.HELD, job_id
    return (ReceiptStatus.ACCEPTED if is_due else ReceiptStatus.SCHEDULED), job_id


def _add_grace(time: datetime, grace: timedelta) -> datetime:
    try:
        return time + grace
    except OverflowError:
        raise InvalidInputError("effective_at: that time is too far away") from None


def _digest(source: str, event: PersonEvent) -> bytes:
    body = [source, event.model_dump(mode="json", exclude_unset=True)]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def deactivate_due(database: Database, found: DueDeactivations | None = None) -> int:
    """Make learners inactive whose deactivation is due, whatever happened to their job; returns how many.

    `found`: how far the rounds before have looked; None: this is the first.
    """
    with database.begin() as connection:
        due = (found or DueDeactivations()).list_known(connection)
    return sum(database.run_each(due, _deactivate, step="person.deactivate"))


def _deactivate(connection: Connection, person: tuple[int, str]) -> bool:
    if not person_events.lock_due_deactivation(connection, *person):
        return False
    return person_events.sync_learner(connection, *person, was_active=True)
