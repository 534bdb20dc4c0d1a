"""Persons: an HR system's events, in order, whatever order they arrive in.

The newest event decides (DESIGN.md §2, Persons). An event that becomes the newest voids what an older one
had asked for and is not yet applied; if it deactivates, it submits a job of its own.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.events import PersonEvent
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError, describe, is_transient
from worker.jobs.calendar import effective_time
from worker.jobs.submit import Requester, accept_deactivation, deactivation
from worker.ledger import claims, hr_sources, jobs, person_events

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an event.

    `accepted`, `scheduled` or `held` (with its job), `noted` (the person is inactive, and its source's policy
    withdraws nothing), `reactivated`, or `ignored` (an older one).
    """

    status: str
    job_id: int | None = None
    id: int | None = None
    repeated: bool = False
    """Whether the same event was answered before: nothing was done now."""


AHEAD = timedelta(minutes=5)
"""So far may a sender's clock go ahead. An event dated later would stay the newest, and outrank all that follow."""


def record(database: Database, requester: Requester, source: str, event: PersonEvent) -> Receipt:
    """Take an event of `source` in: order it, follow it, and submit or void the person's job.

    Raises:
        IdempotencyConflictError: the key was used for another event.
    """
    receipt = database.run(lambda connection: record_in(connection, requester, source, event), patient=True)
    log.info(
        "person.event", organisation_id=requester.organisation_id, type=event.type, status=receipt.status,
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
) -> Receipt:
    """`record` in the caller's transaction: whatever came of it, its key answers the same from now on.

    `request_hash`: by which the same request is known again; None: of the event's own fields.
    """
    jobs.lock_settings(connection, requester.organisation_id)  # first: a deactivation is admitted under it
    request_hash = request_hash or _digest(source, event)
    known = person_events.receipt(connection, requester.organisation_id, requester.door, requester.key)
    if known is not None:
        if known.request_hash != request_hash:
            raise IdempotencyConflictError(_REUSED)
        return Receipt(known.status, known.job_id, known.id, repeated=True)
    organisation_id = requester.organisation_id
    if jobs.find_by_key(connection, organisation_id=organisation_id, door=requester.door, key=requester.key):
        raise IdempotencyConflictError(_REUSED)  # by a job of another command through the same door
    receipt = _take(connection, requester, source, event, request_hash)
    number = person_events.keep_receipt(
        connection,
        organisation_id=requester.organisation_id,
        door=requester.door,
        key=requester.key,
        request_hash=request_hash,
        status=receipt.status,
        job_id=receipt.job_id,
    )
    return replace(receipt, id=number)


_REUSED = "this key was used before, for another request; a new request takes a new key"


def _take(
    connection: Connection, requester: Requester, source: str, event: PersonEvent, request_hash: bytes
) -> Receipt:
    organisation_id, external_id = requester.organisation_id, event.external_id
    person = person_events.lock(connection, organisation_id, external_id)
    before = person_events.newest(connection, organisation_id, external_id)
    now = jobs.database_now(connection)
    if event.occurred_at is not None and event.occurred_at > now + AHEAD:
        raise InvalidInputError("timestamp: lies in the future; when an event is to hold later, say so in effective_at")
    stored = {
        "organisation_id": organisation_id,
        "external_id": external_id,
        "source": source,
        "type": event.type,
        "sequence": event.sequence,
        "occurred_at": event.occurred_at or now,
        "effective_at": effective_time(connection, organisation_id, event.effective_at) or now,
    }
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=requester.actor,
        action=event.type,
        detail=json.dumps({"source": source, "external_id": external_id}),
    )
    if not person_events.record_event(connection, stored):
        return Receipt("ignored")
    newest = person_events.newest(connection, organisation_id, external_id)
    if newest is None or newest == before:
        return Receipt("ignored")
    return _turn(connection, requester, external_id, newest, request_hash, now, was_active=person.active)


def _turn(
    connection: Connection,
    requester: Requester,
    external_id: str,
    newest: dict[str, Any],
    request_hash: bytes,
    now: datetime,
    *,
    was_active: bool,
) -> Receipt:
    organisation_id = requester.organisation_id
    deactivates = newest["type"] == "user.deactivated"
    effective_at = newest["effective_at"]
    epoch = person_events.turn(
        connection, organisation_id, external_id, active=not deactivates, effective_at=effective_at
    )
    voided = claims.close_superseded_person(
        connection, organisation_id=organisation_id, external_id=external_id, epoch=epoch
    )
    waited_until = jobs.scheduled_for(connection, voided, door=requester.door)
    jobs.finish(connection, voided)
    person_events.follow(connection, organisation_id, external_id, was_active=was_active)
    if not deactivates:
        return Receipt("reactivated")
    policy = hr_sources.policy(connection, organisation_id, newest["source"])
    if policy.on_deactivate == "ignore":
        return Receipt("noted")
    hold = policy.on_deactivate == "hold"
    away_already = effective_at <= now
    effective_at = _later(max(effective_at, now), policy.grace)  # of a day long past nobody could have taken back
    if away_already and waited_until is not None:
        effective_at = min(effective_at, waited_until)  # a system that says so every night starts no grace period anew
    new = deactivation(
        requester,
        external_id,
        epoch=epoch,
        effective_at=None if effective_at <= now else effective_at,
        request_hash=request_hash,
    )
    inserted = accept_deactivation(connection, new, hold=hold)
    if inserted is None:
        raise IdempotencyConflictError(_REUSED)  # by such a job that committed meanwhile
    jobs.notify(connection)
    job_id, held = inserted
    return Receipt("held" if held else "accepted" if effective_at <= now else "scheduled", job_id)


def _later(moment: datetime, grace: timedelta) -> datetime:
    try:
        return moment + grace
    except OverflowError:
        raise InvalidInputError("effective_at: that time is too far away") from None


def _digest(source: str, event: PersonEvent) -> bytes:
    body = [source, event.model_dump(mode="json", exclude_unset=True)]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def deactivate_due(database: Database) -> int:
    """Make learners inactive whose deactivation has fallen due, whatever became of their job; how many."""

    def work(connection: Connection, organisation_id: int, external_id: str) -> bool:
        if not person_events.lock_due(connection, organisation_id, external_id):
            return False
        return person_events.follow(connection, organisation_id, external_id, was_active=True)

    with database.begin() as connection:
        due = person_events.due(connection)
    done = 0
    for organisation_id, external_id in due:
        try:
            done += database.run(partial(work, organisation_id=organisation_id, external_id=external_id))
        except Exception as error:  # whatever it is, the others get their turn
            if is_transient(error):
                raise
            error_class, message, _ = describe(error)
            log.warning(
                "person.not_deactivated", organisation_id=organisation_id, error_class=error_class, message=message
            )
    return done
