"""`withdrawals check` over a million decided enrolments: rows a second, and the longest snapshot that VACUUM waits for.

`python -m ops.bench.books [--rows N]`: half of them in jobs of 100,000, half in jobs of one.
"""

import argparse
import time
from itertools import pairwise

from sqlalchemy import text

from ops.bench.site import BenchError, open_site
from ops.cli.common import out, table
from worker.config import Settings
from worker.database import Database
from worker.reports.books import check

# Each key that is new takes a lock until the commit, too many for one transaction; here every key is different.
_FILL = """
ALTER TABLE withdrawals.jobs DISABLE TRIGGER one_meaning_a_key;
ALTER TABLE withdrawals.receipts DISABLE TRIGGER one_meaning_a_key;
INSERT INTO lms.organisations (name) VALUES ('bench');
INSERT INTO lms.series (organisation_id, code, title) VALUES (1, 's', 'Series');
INSERT INTO lms.learners (organisation_id, external_id) SELECT 1, 'l' || n FROM generate_series(1, {rows}) n;
INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status, withdrawn_at, withdrawal_reason,
    withdrawn_by)
    SELECT 1, n, 1, 'withdrawn', now(), 'not_required', 'bench' FROM generate_series(1, {rows}) n;
CREATE TEMP TABLE wanted ON COMMIT DROP AS
    SELECT n AS job, (n - 1) * {large} + 1 AS low, n * {large} AS high, {large} AS size
    FROM generate_series(1, {rows} / 2 / {large}) n
    UNION ALL SELECT {rows} / 2 / {large} + n, {rows} / 2 + n, {rows} / 2 + n, 1 FROM generate_series(1, {rows} / 2) n;
INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key, request_hash,
    state, accepted, learners, effective_at, admitted_at, finished_at)
    SELECT 1, 'not_required', 'bulk', 'bench', 'cli', 'k' || job, '', 'completed', size, size, now(), now(), now()
    FROM wanted ORDER BY job;
INSERT INTO withdrawals.brake_volume (organisation_id, minute, jobs) VALUES (1, date_trunc('minute', now()), {rows});
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id)
    SELECT 1, 'bench', 'job.submit', job FROM wanted ORDER BY job;
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, counts, closed_at,
    digest)
    SELECT job, 1, number, 2, array_agg(id ORDER BY id), count(*), 'done',
        jsonb_build_object('withdrawn', count(*)), now(), bit_xor(hashint8extended(id, job))
    FROM (SELECT job, id, (id - low) / 1000 AS number FROM wanted, generate_series(low, high) id) ids
    GROUP BY job, number ORDER BY job, number;
INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status)
    SELECT job_id, unnest(enrolment_ids), 1, id, 'withdrawn', 'in_progress' FROM withdrawals.chunks ORDER BY id;
INSERT INTO withdrawals.persons (organisation_id, external_id, epoch)
    SELECT 1, 'l' || n, 1 FROM generate_series(1, {rows} / 10) n;
INSERT INTO withdrawals.person_events (organisation_id, external_id, source, type, occurred_at, effective_at)
    SELECT 1, 'l' || n, 'hr', 'user.reactivated', now(), now() FROM generate_series(1, {rows} / 10) n;
INSERT INTO withdrawals.receipts (organisation_id, door, idempotency_key, request_hash, status)
    SELECT 1, 'hr:hr', 'e' || n, '', 'reactivated' FROM generate_series(1, {rows} / 10) n;
ALTER TABLE withdrawals.jobs ENABLE TRIGGER one_meaning_a_key;
ALTER TABLE withdrawals.receipts ENABLE TRIGGER one_meaning_a_key;
"""
_LARGE = 100_000
"""Enrolments of a large job."""


def run(current: Settings, rows: int) -> float:
    """Fill a database by SQL, check its books, and print one table; outcomes a second.

    Raises:
        BenchError: the check finds something wrong in books that are right.
    """
    owner, database = Database(current, as_owner=True), Database(current)
    with owner.begin() as connection:
        connection.exec_driver_sql(_FILL.format(rows=rows, large=min(_LARGE, rows // 2)))
    with owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    times = [time.perf_counter()]
    books = check(database, on_step=lambda done, steps: times.append(time.perf_counter()))
    seconds = times[-1] - times[0]
    longest = max(after - before for before, after in pairwise(times))
    shown = [
        ("check", f"{seconds:.1f} s", f"{rows / seconds:,.0f} outcomes a second"),
        ("slices", f"{len(times) - 3}", f"the longest {longest:.1f} s"),
    ]
    for what, job_id in (("one job of many", 1), ("one job of one", rows // _LARGE + 9)):
        begin = time.perf_counter()
        check(database, job_id=job_id)
        shown.append((what, f"{time.perf_counter() - begin:.2f} s", ""))
    owner.close()
    database.close()
    out.print(table(f"books of {rows:,}", "", "", rows=shown))
    if not books.clean or books.warnings:
        raise BenchError(f"the books do not balance: {books}")
    return rows / seconds


def main() -> None:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.books", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with open_site() as site, site.empty() as world:
        run(world.settings, arguments.rows)


if __name__ == "__main__":
    main()
