"""The processes that are alive, and the migration that the database is at."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, func, or_, select, text

from worker.ledger.fragments import NO_WAIT
from worker.models import processes
from worker.one_message import Step, at_once

_ALIVE = timedelta(seconds=15)
"""A process that wrote its row within this time counts as alive."""

_RECORD = Step(
    "record_alive",
    """
INSERT INTO withdrawals.processes (id, kind, threads)
VALUES (CAST(:id AS uuid), CAST(:kind AS text), CAST(:threads AS integer))
ON CONFLICT (id) DO UPDATE SET seen_at = now()
""",
)
_REMOVE = delete(processes).where(
    or_(processes.c.id == bindparam("process_id"), processes.c.seen_at < func.now() - timedelta(days=1))
)
THREADS = f"""SELECT coalesce(sum(threads), 0) FROM withdrawals.processes
    WHERE kind = 'worker' AND seen_at > now() - interval '{_ALIVE.total_seconds()} s'"""
"""Threads of all workers that are alive."""
_WORKER_THREADS = text(THREADS)


def record_alive(connection: Connection, process_id: UUID, kind: str, threads: int) -> None:
    """Write that a process is alive now. `kind`: `web`, `worker` or `relay`.

    On a connection where each statement commits itself, and without a wait for the disk: after a crash of the server
    every process writes its row anew within seconds.
    """
    at_once(connection, NO_WAIT, (_RECORD, {"id": process_id, "kind": kind, "threads": threads}))


def remove(connection: Connection, process_id: UUID) -> None:
    """Delete the row of a process that ends, and the rows of processes that were not alive for a day."""
    connection.execute(_REMOVE, {"process_id": process_id})


def worker_threads(connection: Connection, *, at_least: int = 1) -> int:
    """Threads of all workers that are alive; by default at least one: a hint waits for the first worker to start."""
    return max(int(connection.scalar(_WORKER_THREADS) or 0), at_least)


@dataclass(frozen=True, slots=True)
class ProcessCount:
    """The processes of one kind."""

    running: int
    threads: int
    seen_at: datetime
    """The last heartbeat of any of them, also if that was long ago."""


def count_by_kind(connection: Connection) -> dict[str, ProcessCount]:
    """Processes by kind. A kind without a heartbeat in the last day is missing."""
    live = processes.c.seen_at > func.now() - _ALIVE
    counted = select(
        processes.c.kind,
        func.count().filter(live).label("running"),
        func.coalesce(func.sum(processes.c.threads).filter(live), 0).label("threads"),
        func.max(processes.c.seen_at).label("seen_at"),
    ).group_by(processes.c.kind)
    return {
        row.kind: ProcessCount(int(row.running), int(row.threads), row.seen_at) for row in connection.execute(counted)
    }


LATE = timedelta(seconds=7)
"""A process beats every three seconds: one that is silent for longer has missed two beats."""
_LOST = timedelta(minutes=10)

_STATES = (
    select(
        processes.c.kind,
        func.count().filter(processes.c.seen_at > func.clock_timestamp() - LATE).label("running"),
        func.count().filter(processes.c.seen_at <= func.clock_timestamp() - LATE).label("lost"),
    )
    .where(processes.c.seen_at > func.clock_timestamp() - _LOST)
    .group_by(processes.c.kind)
)


def count_by_state(connection: Connection) -> dict[str, dict[str, int]]:
    """By kind, the processes that are `running`, and those `lost`: silent for seconds without having signed off.

    One that stays silent is told as lost for ten minutes.
    """
    return {row.kind: {"running": row.running, "lost": row.lost} for row in connection.execute(_STATES)}


def takes_writes(connection: Connection) -> bool:
    """Whether the server takes writes. A standby, or one that an operator made read-only, answers reads alone."""
    return bool(connection.scalar(text("SELECT current_setting('transaction_read_only') = 'off'")))


def revision(connection: Connection) -> str | None:
    """The migration that the database is at, None before the first."""
    if connection.scalar(text("SELECT to_regclass('withdrawals.schema_version') IS NULL")):
        return None
    return str(connection.scalar(text("SELECT version_num FROM withdrawals.schema_version")))
