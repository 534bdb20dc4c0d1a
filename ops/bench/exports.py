"""A million rows exported in each format: seconds and memory, from the command line and over HTTP.

Run by `make bench`, or alone: `python -m ops.bench.exports [--rows N]`.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import text

from ops.bench.memory import peak
from ops.bench.site import Size, open_site
from ops.cli.common import out, table
from ops.local.supervisor import Supervisor
from schemas.reports import EnrolmentFilter
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.reports.formats import Format
from worker.reports.summary import summarise

_ROWS = """
INSERT INTO lms.organisations (name) VALUES ('exports');
INSERT INTO lms.series (organisation_id, code, title)
    SELECT o.id, 'x' || n, 'Series number ' || n FROM lms.organisations o, generate_series(1, 20) n
    WHERE o.name = 'exports';
INSERT INTO lms.learners (organisation_id, external_id)
    SELECT o.id, 'x' || n FROM lms.organisations o, generate_series(1, {learners}) n WHERE o.name = 'exports';
INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status, progress)
    SELECT l.organisation_id, l.id, s.id, 'in_progress', 12.5
    FROM lms.series s JOIN lms.learners l USING (organisation_id) JOIN lms.organisations o ON o.id = s.organisation_id
    WHERE o.name = 'exports' ORDER BY s.id, l.id LIMIT {rows};
INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key, request_hash,
    state, accepted, effective_at, admitted_at, finished_at)
    SELECT id, 'not_required', 'bulk', 'bench', 'cli', 'exports', '', 'completed', {rows}, now(), now(), now()
    FROM lms.organisations WHERE name = 'exports';
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id)
    SELECT organisation_id, 'bench', 'job.submit', id FROM withdrawals.jobs WHERE idempotency_key = 'exports';
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, counts, closed_at)
    SELECT j.id, j.organisation_id, 1, 2, array_agg(e.id ORDER BY e.id), {rows}, 'done', '{{"withdrawn": {rows}}}',
        now()
    FROM withdrawals.jobs j JOIN lms.enrolments e USING (organisation_id) WHERE j.idempotency_key = 'exports'
    GROUP BY j.id;
UPDATE lms.enrolments e SET status = 'withdrawn', withdrawal_reason = 'not_required', withdrawn_by = 'bench',
    withdrawn_at = now() - e.id * interval '3 seconds'
    FROM lms.organisations o WHERE o.id = e.organisation_id AND o.name = 'exports';
INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status, decided_at)
    SELECT c.job_id, e.id, e.organisation_id, c.id, 'withdrawn', 'in_progress', e.withdrawn_at
    FROM lms.enrolments e JOIN withdrawals.chunks c USING (organisation_id) JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE j.idempotency_key = 'exports' ORDER BY e.withdrawn_at;
"""


def run(current: Settings, rows: int, formats: Sequence[str] = tuple(Format)) -> dict[str, float]:
    """Fill an organisation, export it in each format, and print one table; the seconds of each, and the most memory."""
    owner, database = Database(current, as_owner=True), Database(current)
    with owner.begin() as connection:
        connection.exec_driver_sql(_ROWS.format(rows=rows, learners=(rows + 19) // 20))
    with owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    with owner.begin() as connection:
        organisation_id = connection.scalar(text("SELECT id FROM lms.organisations WHERE name = 'exports'"))
    begin = time.perf_counter()
    summarise(database, organisation_id, EnrolmentFilter())
    summary_seconds = time.perf_counter() - begin
    token = tokens.create(database, organisation_id=organisation_id, name="exports", role="viewer", actor="bench")
    with tempfile.TemporaryDirectory(prefix="withdrawals-exports-", dir="/tmp") as directory:
        names = [f"enrolments.{format_}" for format_ in formats]
        shown = [(*_command(Path(directory), name), "command line") for name in names]
        shown += [(*_download(Path(directory), token.secret, name), "web") for name in names]
    owner.close()
    database.close()
    out.print(table("export", "seconds", "file MB", "peak MB", "process", rows=shown))
    out.print(f"{rows:,} rows each; the summary over as many outcomes took {summary_seconds:.2f} s")
    return {what.rpartition(".")[2]: float(seconds) for what, seconds, _, _, where in shown if where == "web"} | {
        "memory": max(float(used) for _, _, _, used, _ in shown),
        "summary": summary_seconds,
    }


def _command(directory: Path, what: str) -> tuple[str, str, str, str]:
    """Seconds, size and peak memory of `withdrawals report …` in a process of its own."""
    path = directory / what
    words = ["report", path.stem, "--organisation", "exports", "-o", str(path)]
    begin = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-m", "ops", *words], os.environ)
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"report {path.stem} -o {path.name} failed")
    seconds, size = time.perf_counter() - begin, path.stat().st_size
    path.unlink()
    return what, f"{seconds:.2f}", f"{size / 1e6:.0f}", f"{used.ru_maxrss / 1024:.0f}"


def _download(directory: Path, secret: str, what: str) -> tuple[str, str, str, str]:
    """The same over HTTP, from a web process that has just started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = [sys.executable, "-m", "ops", "web"]
    environment = {"WITHDRAWALS_PORT": str(port), "WITHDRAWALS_SECRET_KEY": "a-key-of-the-bench-alone"}
    with Supervisor({"web": web}, environment, output=directory / "log") as running:
        _until_it_answers(f"http://127.0.0.1:{port}/healthz")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/reports/{what}", headers={"Authorization": f"Bearer {secret}"}
        )
        begin = time.perf_counter()
        with urllib.request.urlopen(request, timeout=600) as answer, (directory / what).open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
        seconds = time.perf_counter() - begin
        size = (directory / what).stat().st_size
        used = peak(running.pid("web"))
    return what, f"{seconds:.2f}", f"{size / 1e6:.0f}", f"{used:.0f}"


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - this machine's
            return
        time.sleep(0.1)
    raise SystemExit("the web process does not answer")


def main() -> None:
    """Run it on servers of its own."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.exports", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with open_site() as site, site.fresh(Size()) as world:
        run(world.settings, arguments.rows)


if __name__ == "__main__":
    main()
