"""The processes that are alive, and the migration that the database is at."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from worker.models import processes

_SEEN = text("""
INSERT INTO withdrawals.processes (id, kind, threads) VALUES (:id, :kind, :threads)
ON CONFLICT (id) DO UPDATE SET seen_at = now()
""")
_GONE = text("DELETE FROM withdrawals.processes WHERE id = :id OR seen_at < now() - interval '1 day'")
_THREADS = text("""
SELECT coalesce(sum(threads), 0) FROM withdrawals.processes
WHERE kind = 'worker' AND seen_at > now() - interval '15 seconds'
""")
_RELAY_AGE = text("SELECT extract(epoch FROM now() - max(seen_at)) FROM withdrawals.processes WHERE kind = 'relay'")


def record_alive(connection: Connection, process_id: UUID, kind: str, threads: int) -> None:
    """Put a process on record as alive."""
    connection.execute(_SEEN, {"id": process_id, "kind": kind, "threads": threads})


def remove(connection: Connection, process_id: UUID) -> None:
    """Take a process that ends, and any not seen for a day, off the record."""
    connection.execute(_GONE, {"id": process_id})


def worker_threads(connection: Connection, *, at_least: int = 1) -> int:
    """Threads of all workers seen lately; by default at least one: a hint waits for the first to come."""
    return max(int(connection.scalar(_THREADS) or 0), at_least)


def relay_age(connection: Connection) -> float | None:
    """Seconds since a relay was last seen, None when there never was one."""
    age = connection.scalar(_RELAY_AGE)
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
    live = processes.c.seen_at > func.now() - timedelta(seconds=15)
    counted = select(
        processes.c.kind,
        func.count().filter(live).label("running"),
        func.coalesce(func.sum(processes.c.threads).filter(live), 0).label("threads"),
        func.max(processes.c.seen_at).label("seen_at"),
    ).group_by(processes.c.kind)
    return {
        row.kind: ProcessCount(int(row.running), int(row.threads), row.seen_at) for row in connection.execute(counted)
    }


def revision(connection: Connection) -> str | None:
    """The migration that the database is at, None before the first."""
    if connection.scalar(text("SELECT to_regclass('withdrawals.schema_version') IS NULL")):
        return None
    return str(connection.scalar(text("SELECT version_num FROM withdrawals.schema_version")))
