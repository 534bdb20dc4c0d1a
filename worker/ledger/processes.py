"""What runs: the heartbeat of every process, and what the relay, `/readyz` and the overview read from it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from worker.models import processes

SEEN_LATELY = func.make_interval(0, 0, 0, 0, 0, 0, 15)
"""A process whose last heartbeat is older than 15 seconds does not count."""


def record(connection: Connection, process_id: UUID, kind: str, threads: int) -> None:
    """Record a heartbeat. `kind`: `web`, `worker` or `relay`; `threads`: chunks that it can decide at once."""
    row = insert(processes).values(id=process_id, kind=kind, threads=threads)
    connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()}))


def remove(connection: Connection, process_id: UUID) -> None:
    """Remove a process that ends, and any that was not seen for a day."""
    long_ago = func.now() - func.make_interval(0, 0, 0, 1)
    connection.execute(delete(processes).where(or_(processes.c.id == process_id, processes.c.seen_at < long_ago)))


def worker_threads(connection: Connection, *, at_least: int = 1) -> int:
    """Threads of all workers seen lately; by default at least one: a hint waits for the first worker to come."""
    found = connection.scalar(
        select(func.coalesce(func.sum(processes.c.threads), 0)).where(
            processes.c.kind == "worker", processes.c.seen_at > func.now() - SEEN_LATELY
        )
    )
    return max(int(found or 0), at_least)


def relay_age(connection: Connection) -> float | None:
    """Seconds since a relay was last seen, None when there never was one."""
    last = select(func.extract("epoch", func.now() - func.max(processes.c.seen_at))).where(processes.c.kind == "relay")
    age = connection.scalar(last)
    return None if age is None else float(age)


@dataclass(frozen=True, slots=True)
class ProcessCount:
    """The processes of one kind."""

    running: int
    threads: int
    seen_at: datetime
    """The last heartbeat of any of them, also if that was long ago."""


def count_by_kind(connection: Connection) -> dict[str, ProcessCount]:
    """Processes by kind. A kind without a heartbeat in the last day is missing."""
    live = processes.c.seen_at > func.now() - SEEN_LATELY
    counted = select(
        processes.c.kind,
        func.count().filter(live).label("running"),
        func.coalesce(func.sum(processes.c.threads).filter(live), 0).label("threads"),
        func.max(processes.c.seen_at).label("seen_at"),
    ).group_by(processes.c.kind)
    return {
        row.kind: ProcessCount(int(row.running), int(row.threads), row.seen_at) for row in connection.execute(counted)
    }
