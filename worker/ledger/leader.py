"""The relay that leads, on record: taken by a guarded statement, confirmed by its own heartbeat, read by everybody.

All times are the database's. A standby's heartbeat is in `processes` and says nothing about the leader.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Connection, Uuid, and_, bindparam, case, extract, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB

from worker.ledger.fragments import NO_WAIT
from worker.models import leader
from worker.one_message import Step, at_once

STALE_AFTER = timedelta(seconds=10)
"""A leader whose last heartbeat is older may be replaced. It beats every three seconds."""
LATE_AFTER = 15.0
"""Seconds without a leader's heartbeat after which the service is not ready: nothing wakes the workers."""
REPEATED = 3
"""Failures of a step in a row from which on it is shown: one may be a passing fault."""
ESSENTIAL = ("publish", "take_over", "deactivate", "admit", "finish")
"""Steps without which requests are not worked off."""
_UNREADY = tuple(step for step in ESSENTIAL if step != "publish")
"""Steps whose failure makes web unready. `publish` fails while the broker is away, and requests are still accepted."""

_ME = bindparam("me", type_=Uuid)
_LOCKED = bindparam("has_lock", type_=Boolean)
_NONE = literal({}, JSONB)
_IS_MINE = leader.c.process_id == _ME
_TAKE = (
    update(leader)
    .where(
        or_(
            _IS_MINE,
            leader.c.process_id.is_(None),
            leader.c.seen_at < func.clock_timestamp() - STALE_AFTER,
            and_(leader.c.locked, _LOCKED),  # two cannot hold the lock, so the session that led has ended
        )
    )
    .values(
        process_id=_ME,
        locked=_LOCKED,
        since=case((_IS_MINE, leader.c.since), else_=func.clock_timestamp()),
        failing=case((_IS_MINE, leader.c.failing), else_=_NONE),
        seen_at=func.clock_timestamp(),
    )
)


def take(connection: Connection, process_id: UUID, *, locked: bool) -> bool:
    """Become the leader, or stay it: where none is on record, or it is silent, or its lock is free. Whether it leads.

    `locked`: whether this process holds the advisory lock.
    """
    return connection.execute(_TAKE, {"me": process_id, "has_lock": locked}).rowcount == 1


_CONFIRM = Step(
    "confirm_leader",
    """
UPDATE withdrawals.leader SET seen_at = clock_timestamp(), failing = CAST(:steps AS jsonb)
WHERE process_id = CAST(:me AS uuid) RETURNING true
""",
)


def confirm(connection: Connection, process_id: UUID, failing: dict[str, Any]) -> bool:
    """Record the leader's heartbeat, with the steps that fail; False when another process leads by now.

    On a connection where each statement commits itself, and without a wait for the disk: a crash of the server ends the
    leader's session, and it has to lead anew.
    """
    *_, confirmed = at_once(connection, NO_WAIT, (_CONFIRM, {"me": process_id, "steps": json.dumps(failing)}))
    return bool(confirmed)


_RESIGN = update(leader).where(_IS_MINE).values(process_id=None, locked=False, since=None, seen_at=None, failing={})


def resign(connection: Connection, process_id: UUID) -> None:
    """Take a leader that ends off the record, so that a standby leads at once."""
    connection.execute(_RESIGN, {"me": process_id})


@dataclass(frozen=True, slots=True)
class FailingStep:
    """A step of the leader's rounds that failed several times in a row."""

    step: str
    failures: int
    since: datetime
    """Of the first of these failures, by the clock of the leader's machine."""
    error_class: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Leader:
    """The relay that leads, as far as the database knows."""

    seconds_since_seen: float | None
    """None: no relay leads."""
    failing: tuple[FailingStep, ...] = ()
    """Steps that failed at least three times in a row."""

    @property
    def is_alive(self) -> bool:
        """Whether its heartbeat is recent."""
        return self.seconds_since_seen is not None and self.seconds_since_seen < LATE_AFTER

    @property
    def does_its_work(self) -> bool:
        """Whether it is alive, and no step fails that requests depend on; without a broker they only wait longer."""
        return self.is_alive and not any(found.step in _UNREADY for found in self.failing)


_READ = select(extract("epoch", func.clock_timestamp() - leader.c.seen_at).label("age"), leader.c.failing)


def read(connection: Connection) -> Leader:
    """The leader now."""
    row = connection.execute(_READ).one()
    steps = (_step(name, found) for name, found in sorted(row.failing.items()) if found["failures"] >= REPEATED)
    return Leader(None if row.age is None else float(row.age), tuple(steps))


def _step(name: str, found: dict[str, Any]) -> FailingStep:
    since = datetime.fromisoformat(found["since"])
    return FailingStep(name, found["failures"], since, found["error_class"], found["fingerprint"])
