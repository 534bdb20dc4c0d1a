"""The inbox: what HR systems send is committed as one row before it is answered, and applied afterwards, in sets.

One adapter a system (`worker/web/hooks/`) turns a request into `IncomingEvent`s; from here on they are alike. At the
door an event is verified, parsed and stored, and nothing else happens (decision record 0024). Events that arrive
together share a commit. `worker/queue/inbox.py` applies what waits.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from worker.access import erased
from worker.database import Database, notify_after_commit
from worker.errors import IdempotencyConflictError, InvalidInputError, NotFoundError
from worker.group_commit import GroupCommit
from worker.jobs.calendar import end_of_day
from worker.ledger import dead_letters, inbox, inbox_sets, jobs
from worker.ledger.hr_sources import RegisteredSource
from worker.ledger.inbox import CHANGED, NewReceipt, ShownReceipt, StoredReceipt
from worker.ledger.inbox_sets import WaitingEvent
from worker.people.apply_events import add_grace, apply_events
from worker.people.events import AHEAD, MAX_CLOCK_SKEW, EventReceipt
from worker.people.newest_events import EventResult, lock_people
from worker.records import ArrivedEvent, StoredEvent
from worker.telemetry import request, tracing
from worker.texts import text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChangedRecord:
    """Somebody's record in the HR system changed. What it says now is looked up there (`worker/queue/lookups.py`)."""

    external_id: str
    occurred_at: datetime | None = None
    """When it changed; None: when the event was received."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event as it came. `event`: what it says about a person, or whose record changed; `fault`: why it cannot be
    read; neither: ignored.
    """

    key: str
    """The sender's own id of the event."""
    body: bytes
    """Its hash tells a repeated event from another one."""
    event: PersonEvent | ChangedRecord | None = None
    fault: str | None = None
    """What is wrong with it, free of personal data."""
    request_id: str | None = field(default_factory=request.current)
    """Of the request that it came with, as is `traceparent`."""
    traceparent: str | None = field(default_factory=tracing.current)


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that cannot be read. It is stored as a dead letter, and its sender gets an error."""

    receipt_id: int
    fault: str


Answer = EventReceipt | RejectedEvent
_Given = tuple[RegisteredSource, IncomingEvent]


class Inbox:
    """The door of one process: events that wait at the same time are committed together."""

    def __init__(self, database: Database) -> None:
        self._commits: GroupCommit[_Given, Answer] = GroupCommit(database, _store, name="inbox", autocommit=True)

    def submit(self, source: RegisteredSource, incoming: IncomingEvent) -> "Future[Answer]":
        """Store an event that could be read; its answer is there once it is committed.

        The future raises `IdempotencyConflictError`: the id was used before, with another body; `InvalidInputError`:
        a time of the event is not possible (`reject` it then); or the driver's error: nothing was stored.
        """
        return self._commits.submit((source, incoming))

    async def commit(self, source: RegisteredSource, incoming: IncomingEvent) -> "Answer":
        """`submit`, for an event loop."""
        return await self._commits.commit((source, incoming))

    def close(self) -> None:
        """Commit what waits, and take nothing more."""
        self._commits.close()


def receive(database: Database, source: RegisteredSource, incoming: IncomingEvent) -> Answer:
    """Store one event, whatever is wrong with it; the same id and body again gets the same answer.

    Raises:
        IdempotencyConflictError: the id was used before, with another body.
    """
    if incoming.fault is not None:
        return reject(database, source, incoming)
    given = [(source, incoming)]
    (answer,) = database.run(lambda connection: _accept(connection, given), patient=True, autocommit=True)
    if isinstance(answer, InvalidInputError):
        return reject(database, source, replace(incoming, event=None, fault=str(answer)))
    if isinstance(answer, Exception):
        raise answer
    return answer


def reject(database: Database, source: RegisteredSource, incoming: IncomingEvent) -> Answer:
    """Store an event that cannot be read (`fault`) as a dead letter, once for its id.

    Raises:
        IdempotencyConflictError: the id was used before, with another body.
    """
    answer = None
    while answer is None:  # None: somebody stored the same id meanwhile, so the next round finds it
        answer = database.run(lambda connection: _reject(connection, source, incoming), patient=True)
    return answer


def _store(connection: Connection, given: Sequence[_Given]) -> list[Answer | Exception]:
    with tracing.batch("inbox.store", (incoming.traceparent for _, incoming in given), events=len(given)):
        return _accept(connection, given)


def _accept(connection: Connection, given: Sequence[_Given]) -> list[Answer | Exception]:
    """Store events: for each, in order, its answer or why it is refused. One statement writes; the others only read."""
    zones = _time_zones(connection, given)
    read = [_read(source, incoming, zones) for source, incoming in given]
    new: dict[inbox.ReceiptKey, NewReceipt] = {}
    for one in read:
        if isinstance(one, NewReceipt):
            new.setdefault(one.unique_key, one)
    if any(one.type is not None for one in new.values()):
        notify_after_commit(connection)  # before it is written: the answer to that may be lost
    stored = inbox.insert_all(connection, list(new.values()), skew=MAX_CLOCK_SKEW) if new else {}
    known_keys = [key for key in new if key not in stored]
    known = inbox.find_receipts(connection, known_keys) if known_keys else {}
    answers: list[Answer | Exception] = []
    for one in read:
        if isinstance(one, Exception):
            answers.append(one)
        elif one.unique_key in stored and one is new[one.unique_key]:
            answers.append(EventReceipt(stored[one.unique_key], ReceiptStatus(one.status)))
        elif one.unique_key in stored:  # it came twice in this group
            first, receipt_id = new[one.unique_key], stored[one.unique_key]
            alike = first.request_hash == one.request_hash
            again = EventReceipt(receipt_id, ReceiptStatus(first.status), repeated=True)
            answers.append(again if alike else _reused())
        elif one.unique_key in known:
            answers.append(_answer_again(known[one.unique_key], one.request_hash))
        else:
            answers.append(InvalidInputError(AHEAD))
    return answers


def _time_zones(connection: Connection, given: Sequence[_Given]) -> dict[int, str]:
    """The zones of organisations whose events name a day without a time."""
    dated = {
        source.organisation_id
        for source, incoming in given
        if isinstance(incoming.event, PersonEvent) and not isinstance(incoming.event.effective_at, datetime | None)
    }
    return inbox.time_zones(connection, sorted(dated)) if dated else {}


def _read(source: RegisteredSource, incoming: IncomingEvent, zones: dict[int, str]) -> NewReceipt | Exception:
    """The row of an event, or the fault of its times."""
    event, request_hash = incoming.event, hashlib.sha256(incoming.body).digest()
    came: dict[str, Any] = {"request_id": incoming.request_id, "traceparent": incoming.traceparent}
    of = (source.organisation_id, _door(source), incoming.key, request_hash)
    if event is None:
        return NewReceipt(*of, ReceiptStatus.IGNORED, **came)
    if isinstance(event, ChangedRecord):
        came |= {"type": CHANGED, "lookup": True}
        return NewReceipt(
            *of, ReceiptStatus.ACCEPTED, external_id=event.external_id, occurred_at=event.occurred_at, **came
        )
    effective_at = event.effective_at
    try:
        if effective_at is not None and not isinstance(effective_at, datetime):
            effective_at = end_of_day(effective_at, zones.get(source.organisation_id, "UTC"))
        add_grace(effective_at or datetime.now(UTC), source.grace)
    except InvalidInputError as error:
        return error
    return NewReceipt(
        *of,
        ReceiptStatus.ACCEPTED,
        type=event.type,
        external_id=event.external_id,
        sequence=event.sequence,
        occurred_at=event.occurred_at,
        effective_at=effective_at,
        **came,
    )


def _answer_again(known: StoredReceipt, request_hash: bytes) -> Answer | Exception:
    """The answer that a known event got: not what has become of it, which its receipt tells."""
    if known.request_hash != request_hash:
        return _reused()
    if known.was_inbox:
        return EventReceipt(known.id, ReceiptStatus.ACCEPTED, repeated=True)
    if known.dead_letter_id is not None:
        return RejectedEvent(known.id, known.fault or "invalid")
    return EventReceipt(known.id, ReceiptStatus(known.status), known.job_id, repeated=True)


def _reused() -> IdempotencyConflictError:
    return IdempotencyConflictError(text("this event's id was used before, with another body"))


def _reject(connection: Connection, source: RegisteredSource, incoming: IncomingEvent) -> Answer | None:
    request_hash = hashlib.sha256(incoming.body).digest()
    known = inbox.find_receipt(connection, source.organisation_id, _door(source), incoming.key)
    if known is not None:
        answer = _answer_again(known, request_hash)
        if isinstance(answer, Exception):
            raise answer
        return answer
    with connection.begin_nested() as nested:
        letter_id = _open_letter(connection, source, incoming)
        receipt_id = inbox.insert_receipt(
            connection,
            organisation_id=source.organisation_id,
            door=_door(source),
            key=incoming.key,
            request_hash=request_hash,
            status=ReceiptStatus.INVALID,
            dead_letter_id=letter_id,
        )
        if receipt_id is None:
            nested.rollback()
            return None
    return RejectedEvent(receipt_id, incoming.fault or "invalid")


def _open_letter(connection: Connection, source: RegisteredSource, incoming: IncomingEvent) -> int:
    text = incoming.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    evidence = {"source": source.name, "event_id": incoming.key, "fault": incoming.fault, "body": text}
    return dead_letters.open_for_event(
        connection,
        source.organisation_id,
        message=f"An event of the source {source.name} cannot be read: {incoming.fault}",
        fingerprint=f"invalid_event:{kind_of(incoming.fault or '')}",
        evidence=json.dumps(evidence),
    )


def kind_of(fault: str) -> str:
    """What the same fault of different events has in common (12 hex digits)."""
    return hashlib.sha256(fault.encode()).hexdigest()[:12]


def _door(source: RegisteredSource) -> str:
    return f"hr:{source.name}"


@dataclass(frozen=True, slots=True)
class AppliedSet:
    """What became of a set: results by receipt, and the receipts whose person somebody else had locked."""

    results: dict[int, EventResult]
    busy: list[int]


def apply_set(
    connection: Connection, organisation_id: int, waiting: Sequence[WaitingEvent], *, erasure_key: str | None
) -> AppliedSet:
    """Apply locked events of the inbox, at most one a person, in the caller's transaction.

    The organisation's settings are locked, so this waits for nobody: events of persons whom another transaction has
    locked are left for later. An event about somebody who was erased changes nothing, and nobody's id is kept.
    `erasure_key`: what locking the settings returned.
    """
    gone = erased.find(connection, organisation_id, erasure_key, [event.external_id for event in waiting])
    results = {event.id: EventResult(ReceiptStatus.ERASED) for event in waiting if event.external_id in gone}
    about = [event for event in waiting if event.id not in results]
    people = lock_people(connection, organisation_id, [event.external_id for event in about], skip_taken=True)
    # No earlier than the receipts: the clock of another server may be behind.
    now = max([jobs.database_now(connection), *(event.received_at for event in waiting)])
    arrived = {event.id: _arrived(event) for event in about if event.external_id in people.persons}
    by_person = apply_events(connection, organisation_id, list(arrived.values()), people, now) if arrived else {}
    results |= {receipt_id: by_person[one.external_id] for receipt_id, one in arrived.items()}
    if results:
        inbox_sets.record_results(
            connection, organisation_id, {key: (str(one.status), one.job_id) for key, one in results.items()}
        )
    return AppliedSet(results, [event.id for event in about if event.id not in arrived])


def _arrived(waiting: WaitingEvent) -> ArrivedEvent:
    stored = StoredEvent(
        source=waiting.door.removeprefix("hr:"),
        type=waiting.type,
        sequence=waiting.sequence,
        occurred_at=waiting.occurred_at or waiting.received_at,
        effective_at=waiting.effective_at or min(waiting.occurred_at or waiting.received_at, waiting.received_at),
    )
    return ArrivedEvent(
        waiting.external_id,
        stored,
        waiting.received_at,
        actor=waiting.door,
        door=waiting.door,
        key=waiting.key,
        request_hash=bytes(waiting.request_hash),
        request_id=waiting.request_id,
        traceparent=waiting.traceparent,
    )


def show(database: Database, *, organisation_id: int, receipt_id: int) -> ShownReceipt:
    """One receipt: what was answered to an event, and what became of it.

    Raises:
        NotFoundError: the organisation has no such receipt.
    """
    with database.begin() as connection:
        found = inbox.show_receipt(connection, organisation_id, receipt_id)
    if found is None:
        raise NotFoundError(text("there is no receipt {receipt_id} in this organisation", receipt_id=receipt_id))
    return found
