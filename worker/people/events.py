"""Events about persons, applied in their own order, whatever order they arrive in.

The newest event decides (DESIGN.md §2, Persons). An event that becomes the newest voids what an older one
had asked for and is not yet applied; if it deactivates, it submits a job of its own. A source that says the same again
changes nothing: neither what is under way, nor what a second person has decided (decision record 0019).
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.catalogue import JobState, ReceiptStatus
from schemas.events import PersonEvent
from worker.database import Database, notify_after_commit
from worker.errors import IdempotencyConflictError, InvalidInputError
from worker.jobs.calendar import effective_time
from worker.jobs.submit import Requester, accept_deactivation, deactivation
from worker.ledger import claims, hr_sources, inbox, jobs, person_events
from worker.ledger.fragments import STANDING
from worker.ledger.hr_sources import DeactivationPolicy
from worker.ledger.jobs import KnownDeactivation
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
    if newest.type != "user.deactivated":
        _change_state(connection, organisation_id, external_id, newest)
        person_events.sync_learner(connection, organisation_id, external_id, was_active=person.active)
        return ReceiptStatus.REACTIVATED, None
    policy = hr_sources.find_policy(connection, organisation_id, newest.source)
    epoch = None
    if before is not None and _is_same_fact(before, newest, now):
        same_source = before.source == newest.source
        known = jobs.find_deactivation(connection, organisation_id, external_id, epoch=person.epoch)
        if known is not None and _stands(known, policy, same_source=same_source):
            person_events.sync_learner(connection, organisation_id, external_id, was_active=False)
            return _STATUSES.get(known.state, ReceiptStatus.ACCEPTED), known.id
        epoch = person.epoch if same_source else None  # the job below stands beside those before it
    if epoch is None:
        epoch = _change_state(connection, organisation_id, external_id, newest)
    person_events.sync_learner(connection, organisation_id, external_id, was_active=person.active)
    if policy.on_deactivate == "ignore":
        return ReceiptStatus.NOTED, None
    return _deactivate(connection, requester, external_id, newest, policy, epoch, request_hash, now)


_STATUSES = {
    JobState.HELD: ReceiptStatus.HELD,
    JobState.SCHEDULED: ReceiptStatus.SCHEDULED,
    JobState.CANCELLED: ReceiptStatus.NOTED,
}
"""What a repeated deactivation is answered, by the state of the job that carries it out; else `accepted`."""


def _is_same_fact(before: StoredEvent, newest: StoredEvent, now: datetime) -> bool:
    """Whether the person was deactivated before, from the same time on, or in effect by now in both."""
    if (before.type, newest.type) != ("user.deactivated", "user.deactivated"):
        return False
    return before.effective_at == newest.effective_at or max(before.effective_at, newest.effective_at) <= now


def _stands(known: KnownDeactivation, policy: DeactivationPolicy, *, same_source: bool) -> bool:
    """Whether a job for the same fact goes on answering it: what is under way, and what a second person decided."""
    holds = policy.on_deactivate == "hold"
    if same_source:
        return known.state in STANDING or holds
    # Another source decides by its own policy; but it holds nothing that was released or applied.
    return holds and known.state is not JobState.CANCELLED and (known.is_released or known.is_applied)


def _change_state(connection: Connection, organisation_id: int, external_id: str, newest: StoredEvent) -> int:
    """Let the new newest event replace what older ones had asked for; the person's new epoch."""
    epoch = person_events.set_person_state(
        connection,
        organisation_id,
        external_id,
        active=newest.type != "user.deactivated",
        effective_at=newest.effective_at,
    )
    voided = claims.close_superseded_person(
        connection, organisation_id=organisation_id, external_id=external_id, epoch=epoch
    )
    jobs.finish(connection, voided)
    return epoch


def _deactivate(
    connection: Connection,
    requester: Requester,
    external_id: str,
    newest: StoredEvent,
    policy: DeactivationPolicy,
    epoch: int,
    request_hash: bytes,
    now: datetime,
) -> tuple[ReceiptStatus, int]:
    """Submit the job of a deactivation, as the policy of its source has it."""
    # The grace period starts now at the earliest: nobody could have taken back what took effect in the past.
    effective_at = _add_grace(max(newest.effective_at, now), policy.grace)
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
    notify_after_commit(connection)
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
    return sum(database.run_each(due, _deactivate_learner, step="person.deactivate"))


def _deactivate_learner(connection: Connection, person: tuple[int, str]) -> bool:
    if not person_events.lock_due_deactivation(connection, *person):
        return False
    return person_events.sync_learner(connection, *person, was_active=True)
