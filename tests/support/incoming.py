"""HR events for the inbox: sources of an organisation, events, and what became of them."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event as engine_event

from schemas.events import PersonEvent
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger.hr_sources import RegisteredSource
from worker.people import hr_sources, inbox
from worker.people.events import EventReceipt
from worker.people.inbox import IncomingEvent

START = datetime(2026, 1, 1, tzinfo=UTC)
_keys = itertools.count(1)


def make_registered(
    db: Database, settings: Settings, organisation_id: int, name: str = "workday", **policy: Any
) -> RegisteredSource:
    """A source of an organisation."""
    return hr_sources.create(
        db, settings, organisation_id=organisation_id, name=name, kind="standard", actor="test:approver", **policy
    ).source


def incoming(person: str, kind: str = "deactivated", minute: int = 0, *, key: str = "", **event: Any) -> IncomingEvent:
    """An event that happened so many minutes after `START`."""
    key = key or f"event-{next(_keys)}"
    event = {"occurred_at": START + timedelta(minutes=minute), **event}
    made = PersonEvent(type=f"user.{kind}", external_id=person, **event)
    return IncomingEvent(key, repr((key, made)).encode(), event=made)


def post(db: Database, source: RegisteredSource, *given: IncomingEvent) -> list[int]:
    """Send events one after the other; the ids of their receipts. Nothing is applied yet."""
    receipts = [inbox.receive(db, source, one) for one in given]
    assert all(isinstance(receipt, EventReceipt) and receipt.status == "accepted" for receipt in receipts)
    return [receipt.id for receipt in receipts if isinstance(receipt, EventReceipt)]


def results(world: World, organisation_id: int | None = None) -> list[tuple[str, bool]]:
    """Status of each receipt, in the order of arrival, and whether its event still waits."""
    rows = world.run(
        "SELECT status, waiting FROM withdrawals.receipts WHERE organisation_id = :o ORDER BY received_at, id",
        o=organisation_id or world.organisation_id,
    )
    return [(row.status, row.waiting) for row in rows]


def waiting(world: World) -> list[str]:
    """The persons whose events wait."""
    return [row[0] for row in world.run("SELECT external_id FROM withdrawals.receipts WHERE waiting ORDER BY id")]


def due_again(world: World) -> None:
    """As if every pause between two attempts of the inbox had passed."""
    world.run("UPDATE withdrawals.receipts SET run_after = now() WHERE waiting")


@contextmanager
def counting_statements(db: Database) -> Iterator[list[str]]:
    """The statements that these connections execute while the block runs, without BEGIN and COMMIT."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engine_event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        engine_event.remove(db.engine, "before_cursor_execute", note)
