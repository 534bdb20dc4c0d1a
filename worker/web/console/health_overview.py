"""All at a glance: what runs, what waits, what failed.

Each part is read by itself, so that one that fails hides no other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from schemas.answers import BrakeLimits
from schemas.desk import Overview as Letters
from schemas.job_filter import JobFilter
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk
from worker.errors import describe
from worker.jobs import brake
from worker.ledger import gauges, job_lists, overview
from worker.ledger.overview import Processes
from worker.records import Job

log = structlog.get_logger(__name__)

OVERDUE = 300.0
"""Seconds that due work may wait until somebody should look; the last chunk of a large job waits for minutes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is broken, and the command that mends it, if one does."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """What could be read now; a part that could not is None and named in `missing`."""

    broker: bool
    processes: dict[str, Processes] | None
    due: tuple[int, float] | None
    """Chunks that are due, of all organisations, and the seconds that the oldest has been."""
    jobs: dict[str, int] | None
    letters: Letters | None
    brake: BrakeLimits | None
    last: list[Job] | None
    has_enrolments: bool | None
    missing: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[Alarm]:
        """What is broken, and what to do about it."""
        told = []
        if not self.broker:
            told.append(
                Alarm("Redis cannot be reached. What is asked for is accepted and kept, and decided once it is back.")
            )
        if self.processes is not None:
            if not self._running("relay"):
                told.append(Alarm("No relay runs, so nobody wakes the workers. To start one:", "withdrawals relay"))
            if not self._running("worker"):
                told.append(
                    Alarm("No worker runs: what is asked for is kept, and waits. To start one:", "withdrawals worker")
                )
        if self.due is not None and self.due[1] > OVERDUE:
            told.append(Alarm(f"The oldest work that is due has waited for {self.due[1] / 60:,.0f} minutes."))
        if self.missing:
            parts = ", ".join(self.missing)
            told.append(Alarm(f"Could not be read just now: {parts}. Load the page again in a moment."))
        return told

    def _running(self, kind: str) -> int:
        found = (self.processes or {}).get(kind)
        return found.running if found else 0


def look(
    database: Database, settings: Settings, organisation_id: int, *, reach_broker: Callable[[], object]
) -> Overview:
    """Look at everything once."""
    missing: list[str] = []

    def read(name: str, look_at: Callable[[], T]) -> T | None:
        try:
            return look_at()
        except Exception as error:
            log.warning("overview.part_failed", part=name, error_class=describe(error)[0])
            missing.append(name)
            return None

    def ledger(name: str, statement: Callable[[Connection], T]) -> T | None:
        def look_at() -> T:
            with database.begin() as connection:
                return statement(connection)

        return read(name, look_at)

    return Overview(
        broker=_reached(reach_broker),
        processes=ledger("what runs", overview.processes),
        due=ledger("the work that is due", gauges.due),
        jobs=ledger("the jobs under way", lambda found: overview.unfinished(found, organisation_id)),
        letters=read("the dead letters", lambda: desk.overview(database, settings, organisation_id)),
        brake=read("the brake", lambda: brake.show(database, organisation_id=organisation_id)),
        last=ledger("the last jobs", lambda found: job_lists.list_jobs(found, organisation_id, JobFilter(), limit=10)),
        has_enrolments=ledger("the enrolments", lambda found: overview.has_enrolments(found, organisation_id)),
        missing=missing,
    )


def _reached(reach_broker: Callable[[], object]) -> bool:
    try:
        reach_broker()
    except Exception as error:
        log.warning("overview.part_failed", part="broker", error_class=describe(error)[0])
        return False
    return True
