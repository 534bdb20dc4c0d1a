"""The state of the service: what runs, what is due, what is broken. For the system page and for the overview.

Each part is read in a transaction of its own, so that a part that fails does not hide the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from worker.database import Database
from worker.faults import describe
from worker.ledger import gauges, leader, processes
from worker.ledger.leader import Leader
from worker.ledger.processes import ProcessCount
from worker.texts import Text, joined, text

log = structlog.get_logger(__name__)

LATE_AFTER = 300.0
"""Seconds that due work may wait before the page warns. The last chunk of a large job waits for minutes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is broken, and the command that repairs it, if there is one."""

    text: Text
    command: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What could be read now. A part that could not be read is None, and named in `missing`."""

    broker: bool
    """Whether Redis can be reached."""
    processes: dict[str, ProcessCount] | None
    due: tuple[int, float] | None
    """Due chunks of all organisations, and the seconds that the oldest has waited."""
    leader: Leader | None
    """The relay that leads."""
    missing: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[Alarm]:
        """What is broken, and what to do about it."""
        found = []
        if not self.broker:
            found.append(
                Alarm(text("Redis cannot be reached. Requests are accepted and kept, and are decided once it is back."))
            )
        if self.leader is not None:
            found += _alarms_of_relay(self.leader)
        if self.processes is not None and not self._running("worker"):
            found.append(
                Alarm(text("No worker runs, so requests are kept and wait. To start one:"), "withdrawals worker")
            )
        if self.due is not None and self.due[1] > LATE_AFTER:
            minutes = self.due[1] / 60
            found.append(Alarm(text("The oldest due work has waited for {minutes:,.0f} minutes.", minutes=minutes)))
        if self.missing:
            parts = joined(self.missing, ", ")
            said = text("These parts could not be read: {parts}. Load the page again in a few seconds.", parts=parts)
            found.append(Alarm(said))
        return found

    def _running(self, kind: str) -> int:
        found = (self.processes or {}).get(kind)
        return found.running if found else 0


@dataclass(slots=True)
class PartReader:
    """Reads the parts of a page one by one. A part that cannot be read is None, and its name is kept."""

    database: Database
    missing: list[str] = field(default_factory=list)

    def read(self, name: str, read_part: Callable[[], T]) -> T | None:
        """A part, or None."""
        try:
            return read_part()
        except Exception as error:
            log.warning("overview.part_failed", part=name, error_class=describe(error)[0])
            self.missing.append(name)
            return None

    def query(self, name: str, statement: Callable[[Connection], T]) -> T | None:
        """A part that one transaction reads, or None."""

        def in_transaction() -> T:
            with self.database.begin() as connection:
                return statement(connection)

        return self.read(name, in_transaction)


def read_status(database: Database, *, ping_broker: Callable[[], object]) -> ServiceStatus:
    """Read every part once. `ping_broker` raises when Redis cannot be reached."""
    parts = PartReader(database)
    return ServiceStatus(
        broker=_is_reachable(ping_broker),
        processes=parts.query(text("processes"), processes.count_by_kind),
        leader=parts.query(text("the relay"), leader.read),
        due=parts.query(text("due work"), gauges.due_chunks),
        missing=parts.missing,
    )


def _alarms_of_relay(leads: Leader) -> list[Alarm]:
    if not leads.is_alive:
        return [Alarm(text("No relay runs, so workers are not woken. To start one:"), "withdrawals relay")]
    if not leads.failing:
        return []
    steps = joined(
        (
            text("{step} ({count:,} times, {error})", step=found.step, count=found.failures, error=found.error_class)
            for found in leads.failing
        ),
        ", ",
    )
    return [Alarm(text("Steps of the relay fail again and again: {steps}. Its log says why.", steps=steps))]


def _is_reachable(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except Exception as error:
        log.warning("overview.part_failed", part="broker", error_class=describe(error)[0])
        return False
    return True
