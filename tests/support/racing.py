"""Tools to stop a transaction at a chosen point, to see that somebody waits, and to let workers loose.

A row that a second connection holds is the brake: whoever needs it stops right there, with every lock that
it took before. Nothing here guesses how long something takes.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from tests.support.due import count_due
from tests.support.load import FULL
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import ChangedMeanwhileError
from worker.ledger import claims, jobs
from worker.queue.apply import Applied, apply, apply_at_once, apply_small
from worker.queue.drain import Drain
from worker.records import Claim

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hold:
    """An open transaction of the platform."""

    connection: Connection

    def run(self, statement: str, **parameters: Any) -> None:
        self.connection.execute(text(statement), parameters)

    def release(self) -> None:
        """Commit; whoever waits goes on."""
        self.connection.commit()


@contextmanager
def held(owner: Database, statement: str, **parameters: Any) -> Iterator[Hold]:
    """Run a statement (`SELECT … FOR UPDATE`, an update) as the platform and keep its locks until released."""
    with owner.engine.connect() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.commit()
        hold = Hold(connection)
        hold.run(statement, **parameters)
        yield hold
        connection.rollback()


def hold_enrolments(owner: Database, *ids: int) -> AbstractContextManager[Hold]:
    """Hold enrolments: who wants to decide one stops with its chunk, person and learner locked."""
    return held(owner, "SELECT 1 FROM lms.enrolments WHERE id = ANY(:ids) ORDER BY id FOR UPDATE", ids=list(ids))


def waiters(world: World) -> list[int]:
    """The sessions of this test's database that wait for a lock, by the numbers of their processes."""
    rows = world.run(
        """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND cardinality(pg_blocking_pids(pid)) > 0"""
    )
    return [row.pid for row in rows]


def await_waiters(world: World, count: int = 1) -> None:
    """Until so many sessions of this test's database wait for a lock, and go on waiting: somebody else must hold it."""
    eventually(lambda: len(waiters(world)) == count, what=f"{count} sessions that wait for a lock")


class Threads:
    """Functions that run beside the test; their errors come up where their result is taken."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def go(self, work: Callable[..., T], *arguments: Any, **named: Any) -> "Future[T]":
        return self._pool.submit(work, *arguments, **named)

    def together(self, *works: Callable[[], T]) -> list[T | Exception]:
        """Start at one barrier; each one's result, or the error it ended with."""
        barrier = threading.Barrier(len(works))

        def run(work: Callable[[], T]) -> T:
            barrier.wait(PATIENCE)
            return work()

        futures = [self.go(run, work) for work in works]
        results: list[T | Exception] = []
        for future in futures:
            result = outcome(future)
            results.append(result)
        return results


def outcome(future: "Future[Any]") -> Any:
    """The result of a thread, or the error it ended with."""
    error = future.exception(PATIENCE)
    if error is None:
        return future.result()
    assert isinstance(error, Exception)
    return error


@contextmanager
def workers(db: Database, settings: Settings, count: int, *, pause: float = 0.01) -> Iterator[Drain]:
    """So many worker threads of one process, looking for work until the block ends, with a pause between two looks."""
    drain = Drain(db, settings)
    with running(drain, count, pause=pause):
        yield drain


@contextmanager
def running(drain: Drain, count: int, *, pause: float = 0.01) -> Iterator[None]:
    """Threads that work a claim loop off, again and again."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            drain.run()
            over.wait(pause)

    with ThreadPoolExecutor(count) as pool, ExitStack() as stack:
        stack.callback(drain.stop)
        stack.callback(over.set)
        futures = [pool.submit(work) for _ in range(count)]
        yield
    for future in futures:
        future.result(PATIENCE)


@contextmanager
def always_balanced(db: Database) -> Iterator[None]:
    """The books are looked at over and over while the block runs, and once after it.

    In the suite with a pause between two looks: each costs as much as what it looks at.
    """
    over = threading.Event()

    def look() -> None:
        assert_balanced(db)
        while not over.wait(0 if FULL else 0.1):
            assert_balanced(db)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(look)
        try:
            yield
        finally:
            over.set()
        future.result(PATIENCE)
    assert_balanced(db)


def take(db: Database, *, budget: int = 1000, lease_seconds: float = 30) -> Claim:
    """Claim due chunks as a worker would, and hold the claim in hand."""
    lease = timedelta(seconds=lease_seconds)
    claim = db.run(lambda connection: claims.claim(connection, budget=budget, lease=lease))
    assert claim is not None, "nothing is due"
    return claim


def nothing_is_due(db: Database) -> bool:
    with db.begin() as connection:
        return count_due(connection, most=1) == 0


def decide(db: Database, claim: Claim) -> Applied:
    """Apply a claim and finish its jobs, as a worker would: a plain claim in one round trip."""
    done = None
    if claim.is_plain:
        with suppress(ChangedMeanwhileError):
            done = db.run(lambda connection: apply_at_once(connection, claim), autocommit=True)
    if done is None:
        return decide_generally(db, claim)
    finish(db, *done[0].job_ids)
    return done[0]


def decide_generally(db: Database, claim: Claim) -> Applied:
    """`decide` in the way of what is not plain."""
    applied = db.run(lambda connection: apply(connection, claim))
    finish(db, *applied.job_ids)
    return applied


def decide_small(db: Database, claim: Claim) -> None:
    """`decide` as a worker does it with small chunks: in one message, and what is special in them afterwards."""
    found = db.run(lambda connection: apply_small(connection, claim), autocommit=True)
    left = [one for one in claim.chunk_ids if one not in found.asked]
    finish(db, *{one.job_id for one in found.decided})
    if left:
        decide(db, replace(claim, chunk_ids=left, is_plain=False))


DECIDE: dict[str, Callable[[Database, Claim], object]] = {
    "list": decide_generally,
    "list at once": decide,
    "list among others": decide_small,
    "person": decide,
    "person among others": decide_small,
}
"""The ways of deciding, by what a job names and how its claim is decided."""


def finish(db: Database, *job_ids: int) -> list[tuple[int, str]]:
    return db.run(lambda connection: jobs.finish(connection, list(job_ids)))


def leases_run_out(world: World) -> None:
    """As if all who hold a claim had not been heard of for the whole lease."""
    world.run("UPDATE withdrawals.chunks SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'claimed'")


def falls_due(world: World) -> None:
    """As if the effective time of everything scheduled had come."""
    for table in ("jobs", "persons", "person_events"):
        world.run(f"UPDATE withdrawals.{table} SET effective_at = now() WHERE effective_at > now()")


def due_now(world: World) -> None:
    """As if every backoff had passed."""
    world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")


def job_state(world: World, job_id: int) -> str:
    return str(world.one("SELECT state FROM withdrawals.jobs WHERE id = :id", id=job_id))


def chunks(world: World, job_id: int, columns: str = "state") -> list[Any]:
    """Columns of a job's chunks, in id order."""
    return world.run(f"SELECT {columns} FROM withdrawals.chunks WHERE job_id = :id ORDER BY id", id=job_id)


def written(world: World) -> list[Any]:
    """Everything that a decision could write, to be compared before and after."""
    return [
        world.run("SELECT * FROM withdrawals.chunks ORDER BY id"),
        world.run("SELECT * FROM withdrawals.outcomes ORDER BY job_id, enrolment_id"),
        world.run("SELECT * FROM withdrawals.attempts ORDER BY id"),
        world.run("SELECT * FROM withdrawals.dead_letters ORDER BY id"),
        world.run("SELECT * FROM withdrawals.audit ORDER BY id"),
        world.run("SELECT * FROM lms.enrolments ORDER BY id"),
    ]
