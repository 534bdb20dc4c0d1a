"""`make bench`: compare the service with the obvious program and with bare SQL, on the same servers in the same run.

The obvious program is a plain Dramatiq actor with one transaction for each enrolment (`ops/bench/obvious.py`).
Bare SQL does only the writes: the same sets on two connections.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from ops.bench import exports, letters, obvious
from ops.bench.memory import peak
from ops.cli.common import out, table
from ops.local.servers import LocalServers
from ops.local.supervisor import Supervisor
from ops.migrate import migrate
from schemas.events import PersonEvent
from schemas.jobs import FileRequest, JobRequest
from worker import logs
from worker.config import Settings, settings
from worker.database import Database
from worker.jobs.submit import Requester, submit, submit_file
from worker.people import events

_TIMEOUT = 900.0  # seconds


def main() -> None:
    """Run all benchmarks and print their results."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    parser.add_argument("--enrolments", type=int, default=1_000_000, help="size of the bulk job")
    parser.add_argument("--obvious", type=int, default=20_000, help="enrolments for the obvious program")
    parser.add_argument("--latencies", type=int, default=200, help="single requests on an idle system")
    parser.add_argument("--exports", type=int, default=1_000_000, help="rows of the exports; 0 skips them")
    parser.add_argument("--letters", type=int, default=100_000, help="dead letters that are redriven; 0 skips them")
    arguments = parser.parse_args()
    logs.silence()
    directory = Path(tempfile.mkdtemp(prefix="withdrawals-bench-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        with LocalServers(directory / "local") as servers:
            os.environ |= {"DATABASE_URL": servers.database_url, "BROKER_URL": servers.broker_url}
            os.environ["WITHDRAWALS_BRAKE_FLOOR"] = str(10**9)  # the benchmark withdraws everybody at once
            settings.cache_clear()
            _run(settings(), arguments.enrolments, arguments.obvious, arguments.latencies)
            if arguments.exports:
                exports.run(settings(), arguments.exports)
            if arguments.letters:
                letters.run(settings(), arguments.letters)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(current: Settings, size: int, obvious_size: int, latencies: int) -> None:
    owner = Database(current, as_owner=True)
    migrate(owner.engine, role=current.database_role)
    rows = []

    with _fresh(owner, obvious_size), _children(obvious.command(current.processes, current.threads)):
        rate = _timed(obvious_size, lambda: _obvious(owner, obvious_size))
    rows.append(("the obvious program: one actor and transaction per enrolment", obvious_size, rate, 1.0))
    base = rate

    with _fresh(owner, size):
        bare = _timed(size, lambda: _bare(owner, size, current.chunk_size))
    rows.append(("bare SQL in sets, two connections", size, bare, bare / base))

    worker = [sys.executable, "-m", "ops", "worker"]
    relay = [sys.executable, "-m", "ops", "relay"]
    with _fresh(owner, size), _children(worker, relay) as running:
        database = Database(current)
        waits: list[float] = []
        rate = _timed(size, lambda: waits.append(_bulk(database, owner, size)))
        rows.append(("this service, one bulk job, submit to last outcome", size, rate, rate / base))
        peaks = [peak(running.pid(name)) for name in ("0", "1")]
        found = _latencies(database, owner, latencies)
        database.close()
    owner.close()

    shown = [(name, f"{count:,}", f"{speed:,.0f}", f"{ratio:.1f}") for name, count, speed, ratio in rows]
    out.print(table("program", "enrolments", "per second", "ratio", rows=shown))
    out.print(f"This service compared with bare SQL: {rate / bare:.2f}")
    out.print(f"A deactivation sent during the bulk job finished after {waits[0] * 1000:.0f} ms.")
    out.print(f"Peak memory of one process during the bulk job: worker {peaks[0]:.0f} MB, relay {peaks[1]:.0f} MB")
    out.print(
        f"From submit to withdrawn on an idle system, {len(found)} requests: median {statistics.median(found):.1f} ms, "
        f"p95 {sorted(found)[int(len(found) * 0.95)]:.1f} ms, maximum {max(found):.1f} ms"
    )


def _obvious(owner: Database, size: int) -> None:
    broker = obvious.make_broker()
    for enrolment_id in range(1, size + 1):
        broker.enqueue(obvious.message(enrolment_id))
    _until(lambda: _withdrawn(owner) == size)
    broker.close()


def _bare(owner: Database, size: int, chunk: int) -> None:
    """Two connections take alternate sets, update the enrolments and insert a row for each."""

    def half(first: int) -> None:
        for start in range(first * chunk + 1, size + 1, 2 * chunk):
            with owner.begin() as connection:
                connection.execute(
                    text("""
                    WITH done AS (UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(),
                        withdrawal_reason = 'not_required', withdrawn_by = 'bare'
                        WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'in_progress' RETURNING id)
                    INSERT INTO bench_outcomes (job_id, enrolment_id, outcome) SELECT 1, id, 'withdrawn' FROM done"""),
                    {"ids": list(range(start, min(start + chunk, size + 1)))},
                )

    with owner.begin() as connection:
        connection.execute(
            text("""CREATE TABLE bench_outcomes (job_id bigint, enrolment_id bigint, outcome text,
                decided_at timestamptz DEFAULT now(), PRIMARY KEY (job_id, enrolment_id))""")
        )
    threads = [threading.Thread(target=half, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _bulk(database: Database, owner: Database, size: int) -> float:
    """Run one job over all enrolments. Returns the seconds that a deactivation in the middle of it took."""
    requester = Requester(1, "bench", "api", f"bulk-{time.time()}")
    submit_file(database, requester, FileRequest(reason="not_required"), enumerate(range(1, size + 1), 2))
    leaver = PersonEvent(type="user.deactivated", external_id="l1")
    begin = time.perf_counter()
    done = events.record(database, Requester(1, "bench", "hr:bench", "leaver"), "bench", leaver)
    of_leaver = f"SELECT count(*) FROM withdrawals.jobs WHERE id = {done.job_id} AND finished_at IS NOT NULL"
    _until(lambda: _count(owner, of_leaver) == 1, every=0.005)
    waited = time.perf_counter() - begin
    unfinished = "SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL"
    _until(lambda: _count(owner, unfinished) == 0, every=0.02)
    if _withdrawn(owner) != size:
        raise SystemExit(f"{_withdrawn(owner)} withdrawn, not {size}")
    return waited


def _latencies(database: Database, owner: Database, count: int) -> list[float]:
    """Milliseconds from before `submit` to a read that sees the enrolment withdrawn, each on an idle system."""
    with owner.begin() as connection:
        connection.execute(text("UPDATE lms.enrolments SET status = 'in_progress' WHERE id <= :n"), {"n": count})
    found = []
    for enrolment_id in range(1, count + 1):
        time.sleep(0.05)  # let every process become idle
        begin = time.perf_counter()
        requester = Requester(1, "bench", "api", f"single-{time.time()}-{enrolment_id}")
        submit(database, requester, JobRequest(reason="not_required", enrolment_ids=[enrolment_id]))
        query = f"SELECT count(*) FROM lms.enrolments WHERE id = {enrolment_id} AND status = 'withdrawn'"
        _until(lambda query=query: _count(owner, query) == 1, every=0.001)  # type: ignore[misc]
        found.append((time.perf_counter() - begin) * 1000)
    return found


@contextmanager
def _fresh(owner: Database, size: int) -> Iterator[None]:
    """Empty the tables and fill in `size` active enrolments, analysed and checkpointed."""
    with owner.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE withdrawals.audit DISABLE TRIGGER append_only; "
            "TRUNCATE lms.organisations, withdrawals.jobs, withdrawals.outcomes, withdrawals.audit, "
            "withdrawals.brake_volume, withdrawals.processes, withdrawals.persons, withdrawals.receipts "
            "RESTART IDENTITY CASCADE; "
            "ALTER TABLE withdrawals.audit ENABLE TRIGGER append_only; DROP TABLE IF EXISTS bench_outcomes"
        )
        for statement in (
            "INSERT INTO lms.organisations (name) VALUES ('bench')",
            "INSERT INTO lms.series (organisation_id, code, title) "
            "SELECT 1, 's' || n, 's' FROM generate_series(1, 20) n",
            "INSERT INTO lms.learners (organisation_id, external_id) SELECT 1, 'l' || n "
            "FROM generate_series(1, CAST(:learners AS bigint)) n",
            "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) SELECT 1, l.id, s.id, "
            "'in_progress' FROM lms.series s, lms.learners l ORDER BY s.id, l.id LIMIT :size",
        ):
            connection.execute(text(statement), {"learners": (size + 19) // 20, "size": size})
    with owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")
    yield


@contextmanager
def _children(*commands: list[str]) -> Iterator[Supervisor]:
    named = {f"{number}": command for number, command in enumerate(commands)}
    with tempfile.TemporaryDirectory() as directory, Supervisor(named, output=Path(directory) / "log") as running:
        time.sleep(2)  # running and idle before the clock starts
        yield running


def _timed(count: int, work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def _until(condition: Callable[[], bool], *, every: float = 0.05) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("timed out")
        time.sleep(every)


def _count(owner: Database, query: str) -> int:
    with owner.begin() as connection:
        return int(connection.scalar(text(query)) or 0)


def _withdrawn(owner: Database) -> int:
    return _count(owner, "SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'")


if __name__ == "__main__":
    main()
