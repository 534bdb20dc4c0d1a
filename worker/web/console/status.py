"""The state of the service, as the overview page shows it: what runs, what waits, what failed.

Each part is read in a transaction of its own, so that a part that fails does not hide the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from schemas.brake import BrakeLimits
from schemas.desk import Overview as LettersOverview
from schemas.job_filter import JobFilter
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk
from worker.errors import describe
from worker.jobs import brake
from worker.ledger import gauges, job_lists, leader, processes, series_library
from worker.ledger.leader import Leader
from worker.ledger.processes import ProcessCount
from worker.records import Job

log = structlog.get_logger(__name__)

LATE_AFTER = 300.0
"""Seconds that due work may wait before the page warns. The last chunk of a large job waits for minutes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is broken, and the command that repairs it, if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What could be read now. A part that could not be read is None, and named in `missing`."""

    broker: bool
    """Whether Redis can be reached."""
    processes: dict[str, ProcessCount] | None
    due: tuple[int, float] | None
    """Due chunks of all organisations, and the seconds that the oldest has waited."""
    jobs: dict[str, int] | None
    letters: LettersOverview | None
    brake: BrakeLimits | None
    last: list[Job] | None
    has_enrolments: bool | None
    leader: Leader | None
    """The relay that leads."""
    missing: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[Alarm]:
        """What is broken, and what to do about it."""
        found = []
        if not self.broker:
            found.append(
                Alarm("Redis cannot be reached. Requests are accepted and kept, and are decided once it is back.")
            )
        if self.leader is not None:
            found += _alarms_of_relay(self.leader)
        if self.processes is not None and not self._running("worker"):
            found.append(Alarm("No worker runs, so requests are kept and wait. To start one:", "withdrawals worker"))
        if self.due is not None and self.due[1] > LATE_AFTER:
            found.append(Alarm(f"The oldest due work has waited for {self.due[1] / 60:,.0f} minutes."))
        if self.missing:
            parts = ", ".join(self.missing)
            found.append(Alarm(f"These parts could not be read: {parts}. Load the page again in a few seconds."))
        return found

    def _running(self, kind: str) -> int:
        found = (self.processes or {}).get(kind)
        return found.running if found else 0


def read_status(
    database: Database, settings: Settings, organisation_id: int, *, ping_broker: Callable[[], object]
) -> ServiceStatus:
    """Read every part once. `ping_broker` raises when Redis cannot be reached."""
    missing: list[str] = []

    def read(name: str, read_part: Callable[[], T]) -> T | None:
        try:
            return read_part()
        except Exception as error:
            log.warning("overview.part_failed", part=name, error_class=describe(error)[0])
            missing.append(name)
            return None

    def query(name: str, statement: Callable[[Connection], T]) -> T | None:
        def in_transaction() -> T:
            with database.begin() as connection:
                return statement(connection)

        return read(name, in_transaction)

    return ServiceStatus(
        broker=_is_reachable(ping_broker),
        processes=query("processes", processes.count_by_kind),
        leader=query("the relay", leader.read),
        due=query("due work", gauges.due_chunks),
        jobs=query("jobs in progress", lambda found: gauges.unfinished_jobs(found, organisation_id)),
        letters=read("dead letters", lambda: desk.overview(database, settings, organisation_id)),
        brake=read("the brake", lambda: brake.show(database, organisation_id=organisation_id)),
        last=query("latest jobs", lambda found: job_lists.list_jobs(found, organisation_id, JobFilter(), limit=10)),
        has_enrolments=query("enrolments", lambda found: series_library.has_enrolments(found, organisation_id)),
        missing=missing,
    )


def _alarms_of_relay(leads: Leader) -> list[Alarm]:
    if not leads.is_alive:
        return [Alarm("No relay runs, so workers are not woken. To start one:", "withdrawals relay")]
    if not leads.failing:
        return []
    steps = ", ".join(f"{found.step} ({found.failures:,} times, {found.error_class})" for found in leads.failing)
    return [Alarm(f"Steps of the relay fail again and again: {steps}. Its log says why.")]


def _is_reachable(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except Exception as error:
        log.warning("overview.part_failed", part="broker", error_class=describe(error)[0])
        return False
    return True
