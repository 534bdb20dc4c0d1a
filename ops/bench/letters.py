"""A hundred thousand dead letters: grouped, previewed, redriven by a run; as many kept as one action; and the memory.

Run by `make bench`, or alone: `python -m ops.bench.letters [--letters N]`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from ops.bench.memory import peak
from ops.bench.site import BenchError, Size, open_site
from ops.cli.common import out, table
from ops.local.supervisor import Supervisor
from schemas.dead_letters import LetterFilter
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import decision_receipts, desk, runs
from worker.ledger.runs import CountedRun
from worker.reports.books import check

_ROWS = """
INSERT INTO lms.organisations (name) VALUES ('{name}');
INSERT INTO lms.series (organisation_id, code, title) SELECT id, 'l', 'Series' FROM lms.organisations
    WHERE name = '{name}';
INSERT INTO lms.pathways (organisation_id, title) SELECT id, 'Pathway' FROM lms.organisations WHERE name = '{name}';
INSERT INTO lms.learners (organisation_id, external_id)
    SELECT o.id, 'l' || n FROM lms.organisations o, generate_series(1, {letters}) n WHERE o.name = '{name}';
INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
    SELECT l.organisation_id, l.id, s.id, 'in_progress' FROM lms.learners l JOIN lms.series s USING (organisation_id)
    WHERE l.organisation_id = (SELECT id FROM lms.organisations WHERE name = '{name}');
INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key, request_hash,
    state, accepted, effective_at, admitted_at, finished_at)
    SELECT id, 'not_required', 'bulk', 'bench', 'cli', '{name}', '', 'completed_with_exceptions', {letters}, now(),
        now(), now() FROM lms.organisations WHERE name = '{name}';
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id)
    SELECT organisation_id, 'bench', 'job.submit', id FROM withdrawals.jobs WHERE idempotency_key = '{name}';
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, counts, closed_at)
    SELECT j.id, j.organisation_id, 1, 2, array_agg(e.id ORDER BY e.id), {letters}, 'done',
        '{{"pathway_owned": {letters}}}', now()
    FROM withdrawals.jobs j JOIN lms.enrolments e USING (organisation_id) WHERE j.idempotency_key = '{name}'
    GROUP BY j.id;
INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, job_id, message, fingerprint, evidence)
    SELECT e.organisation_id, 'pathway_owned', e.id, j.id, 'A Learning Pathway owns this enrolment.',
        'pathway_owned:' || mod(e.id, 10), '{{"status": "in_progress", "pathway_id": 1}}'
    FROM lms.enrolments e JOIN withdrawals.jobs j USING (organisation_id) WHERE j.idempotency_key = '{name}';
INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status, pathway_id,
    dead_letter_id)
    SELECT d.job_id, d.enrolment_id, d.organisation_id, c.id, 'pathway_owned', 'in_progress', 1, d.id
    FROM withdrawals.dead_letters d JOIN withdrawals.chunks c ON c.job_id = d.job_id
    JOIN withdrawals.jobs j ON j.id = d.job_id WHERE j.idempotency_key = '{name}';
"""
_PATIENCE = 900.0  # seconds


def run(current: Settings, letters: int, rate: int = 1000) -> dict[str, float]:
    """Make the letters, act on all of them, and print one table; the letters a second of each act.

    `rate`: letters a second at the most.

    Raises:
        BenchError: the books do not balance.
    """
    owner, database = Database(current, as_owner=True), Database(current)
    organisations = {act: _made(owner, act, letters) for act in ("redrive", "keep")}
    shown: list[tuple[str, str]] = []
    rates: dict[str, float] = {}

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        shown.append((what, f"{time.perf_counter() - begin:.2f}"))

    redriven, kept = organisations["redrive"], organisations["keep"]
    with timed("group by fingerprint"):
        desk.groups(database, current, redriven, LetterFilter())
    with timed("one page of the desk"):
        page = desk.list_letters(database, current, kept, LetterFilter(), cursor=None, limit=50)
    with timed("preview of a redrive"):
        runs.preview(database, organisation_id=redriven, act="redrive", wanted=LetterFilter())
    worker, relay = [sys.executable, "-m", "ops", "worker"], [sys.executable, "-m", "ops", "relay"]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with Supervisor({"worker": worker, "relay": relay}, output=log) as running:
            for act, organisation_id in organisations.items():
                with timed(f"{act} of {letters:,}, at {rate:,} a second at the most"):
                    began = time.perf_counter()
                    ended = _run_off(database, organisation_id, act, rate)
                    rates[act] = letters / (time.perf_counter() - began)
                out.print(f"{act}: resolved {ended.resolved:,}, came back {ended.came_back:,}")
            peaks = {name: peak(running.pid(name)) for name in ("worker", "relay")}
    with timed("decision receipt of one that was kept"):
        decision_receipts.explain(database, organisation_id=kept, enrolment_id=page.items[0].enrolment_id or 0)
    books = check(database)
    owner.close()
    database.close()
    out.print(table(f"{letters:,} letters each", "seconds", rows=shown))
    if not books.clean:
        raise BenchError(f"the books do not balance: {books}")
    out.print("most memory of a process: " + ", ".join(f"{name} {used:.0f} MB" for name, used in peaks.items()))
    return rates


def _made(owner: Database, name: str, letters: int) -> int:
    """An organisation with so many letters; its id."""
    with owner.begin() as connection:
        connection.exec_driver_sql(_ROWS.format(letters=letters, name=name))
        organisation_id = int(connection.scalar(text("SELECT max(id) FROM lms.organisations")) or 0)
    with owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    return organisation_id


def _run_off(database: Database, organisation_id: int, act: str, rate: int) -> CountedRun:
    begun = runs.start(
        database,
        organisation_id=organisation_id,
        act=act,
        wanted=LetterFilter(),
        actor="bench",
        note="bench",
        rate=rate,
    )
    deadline = time.monotonic() + _PATIENCE
    while (found := runs.show(database, organisation_id=organisation_id, run_id=begun.id)).finished_at is None:
        if time.monotonic() > deadline:
            raise SystemExit("the run did not end in time")
        time.sleep(0.2)
    return found


def main() -> None:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.letters", description=__doc__)
    parser.add_argument("--letters", type=int, default=100_000)
    arguments = parser.parse_args()
    with open_site() as site, site.fresh(Size()) as world:
        run(world.settings, arguments.letters)


if __name__ == "__main__":
    main()
