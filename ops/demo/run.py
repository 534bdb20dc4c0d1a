"""`withdrawals demo`: load the dataset, replay its withdrawals, resolve the dead letters, compare every figure."""

import shlex
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import text

from ops.cli.common import out, table
from ops.cli.servers import local_dir
from ops.demo import oulad
from ops.local.servers import is_embedded
from ops.local.supervisor import Supervisor, procfile_commands
from schemas.control import BrakeSetting
from schemas.jobs import JobRequest
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs import brake
from worker.jobs.singles import singles
from worker.jobs.submit import Requester, single, submit
from worker.records import Submitted
from worker.reports.books import check

CALLERS = 256
"""Requests that wait for their answer at the same time."""
TWICE = 500
"""Requests of the replay that are sent a second time, with the same key."""
SHARE = 0.4
"""Brake limit, as a share of the learners. The replay withdraws 9,155 of 28,785 learners within minutes."""
_TIMEOUT = 300.0  # seconds for the service to finish what it accepted


@dataclass(slots=True)
class Demo:
    """One run: its organisation, and the figures and times that were measured."""

    database: Database
    owner: Database
    rows: list[oulad.Registration]
    name: str
    default_share: float
    organisation_id: int = 0
    base: int = 0
    repeated: int = 0
    figures: list[tuple[str, int, int]] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)

    def compare(self, what: str, expected: int, found: int) -> None:
        self.figures.append((what, expected, found))

    def count(self, query: str) -> int:
        """The result of a count over this organisation (`:o`)."""
        return self.owner.run(lambda connection: int(connection.scalar(text(query), {"o": self.organisation_id}) or 0))

    def digest(self, query: str) -> int:
        """A fingerprint of the text rows of `query`, to show that they did not change."""
        hashed = "('x' || substr(md5(string_agg(r, '|' ORDER BY r)), 1, 15))::bit(60)::bigint"
        return self.count(f"SELECT {hashed} FROM ({query}) AS q(r)")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.times.append((what, time.monotonic() - begin))


def run(current: Settings) -> bool:
    """Run the demo. Returns whether every figure is right."""
    database, owner = Database(current), Database(current, as_owner=True)
    log = local_dir() / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Supervisor(procfile_commands(), {"WITHDRAWALS_PORT": str(free_port())}, output=log):
            demo = Demo(database, owner, oulad.registrations(), new_name(owner, "Open University"), current.brake_share)
            out.print(f"Organisation {demo.name!r}. Web, worker and relay log to {log}.")
            _load(demo)
            _replay(demo)
            _support(demo)
            _verify(demo)
        return _report(demo, next_command(demo.name, current.database_url.get_secret_value(), program(sys.argv[0])))
    finally:
        database.close()
        owner.close()


def _load(demo: Demo) -> None:
    with demo.timed("load 32,593 enrolments"), demo.owner.begin() as connection:
        demo.organisation_id, demo.base = oulad.load(connection, demo.name, demo.rows)
    limits = brake.set_limits(
        demo.database, organisation_id=demo.organisation_id, wanted=BrakeSetting(share=SHARE), actor="demo:approver"
    )
    out.print(
        f"The brake of this organisation is set to {limits.share:.0%} of its {limits.population:,} learners a day "
        f"(default {demo.default_share:.0%}), because the replay withdraws 31.8 % of them in a minute."
    )


_UNTOUCHED = """SELECT (e.id, e.learner_id, e.series_id, e.pathway_id, e.status, e.enrolled_at, e.progress,
    e.withdrawn_at, e.withdrawal_reason, e.withdrawn_by)::text
    FROM lms.enrolments e WHERE e.organisation_id = :o AND e.status IN ('mastered', 'incomplete')"""
_ACCESS = """SELECT (a.learner_id, a.series_id, a.granted_at)::text FROM lms.resource_access a
    JOIN lms.learners l ON l.id = a.learner_id WHERE l.organisation_id = :o"""
_UNFINISHED = "SELECT count(*) FROM withdrawals.jobs WHERE organisation_id = :o AND finished_at IS NULL"
_WITHDRAWN = "SELECT count(*) FROM lms.enrolments WHERE organisation_id = :o AND status = 'withdrawn'"
_ENDED = """SELECT count(*) FROM withdrawals.outcomes
    WHERE organisation_id = :o AND outcome = 'enrolment_ended'"""
_LETTERS = """SELECT count(*) FROM withdrawals.dead_letters
    WHERE organisation_id = :o AND code = 'pathway_owned' AND state = 'open'"""


def _replay(demo: Demo) -> None:
    """Send one request for each row with a day, in the order of the days; then one correction for the rest."""
    before = demo.digest(_UNTOUCHED), demo.digest(_ACCESS)
    requests = sorted((row for row in demo.rows if row.day is not None), key=lambda row: row.day or 0)
    rest = [demo.base + row.number for row in demo.rows if row.withdrawn and row.day is None]
    with demo.timed(f"send {len(requests) + TWICE:,} requests and one bulk job of {len(rest)}"), _progress() as bar:
        sent = bar.add_task("requests sent", total=len(requests))
        done = bar.add_task("withdrawn", total=9864)
        shown = time.monotonic()
        for _ in _send(demo, requests):
            bar.advance(sent)
            if time.monotonic() - shown > 0.2:
                bar.update(done, completed=demo.count(_WITHDRAWN))
                shown = time.monotonic()
        submit(
            demo.database,
            Requester(demo.organisation_id, "demo:registry", "api", "correction"),
            JobRequest(reason="enrolment_error", source="correction", enrolment_ids=rest),
        )
        begun = time.monotonic()
        _wait(demo, _UNFINISHED, lambda: bar.update(done, completed=demo.count(_WITHDRAWN)))
    demo.times.append(("  of which after the last request", time.monotonic() - begun))
    demo.compare("repeated requests answered with the first job", TWICE, demo.repeated)
    demo.compare("withdrawn before support acts", 9864, demo.count(_WITHDRAWN))
    demo.compare("open dead letters pathway_owned", 292, demo.count(_LETTERS))
    demo.compare("outcomes enrolment_ended", 9, demo.count(_ENDED))
    demo.compare("ended enrolments, unchanged", before[0], demo.digest(_UNTOUCHED))
    demo.compare("resource access, unchanged", before[1], demo.digest(_ACCESS))


def _send(demo: Demo, rows: Sequence[oulad.Registration]) -> Iterator[None]:
    """Send a request for each row, the first of them twice, as many callers at once do; yields with each answer.

    Requests that wait for a commit share the next one, as in a web process.
    """
    commits = singles(demo.database)
    waiting: deque[list[Future[Submitted]]] = deque()
    for number, row in enumerate(rows):
        requester = Requester(demo.organisation_id, "demo:learner", "api", f"registration-{row.number}")
        request = single(requester, JobRequest(reason="learner_declined", enrolment_ids=[demo.base + row.number]))
        assert request is not None  # noqa: S101 - one id is a small job
        waiting.append([commits.submit(request) for _ in range(2 if number < TWICE else 1)])
        if len(waiting) == CALLERS:
            _wait_for(demo, waiting.popleft())
            yield
    while waiting:
        _wait_for(demo, waiting.popleft())
        yield
    commits.close()


def _wait_for(demo: Demo, answers: list[Future[Submitted]]) -> None:
    """Wait for the answers to one request; one that was sent twice must have got the same job twice."""
    first, *again = [answer.result() for answer in answers]
    demo.repeated += sum(not one.created and one.job.id == first.job.id for one in again)


def _support(demo: Demo) -> None:
    with demo.timed("override 292 dead letters"):
        with demo.owner.begin() as connection:
            found = connection.scalars(
                text("SELECT id FROM withdrawals.dead_letters WHERE organisation_id = :o AND state = 'open'"),
                {"o": demo.organisation_id},
            ).all()
        remedies.resolve(
            demo.database,
            organisation_id=demo.organisation_id,
            letter_ids=list(found),
            remedy="override",
            actor="demo:support",
            note="The learners left the module, so the pathway no longer applies to them.",
        )
        _wait(
            demo,
            """SELECT count(*) FROM withdrawals.dead_letters
            WHERE organisation_id = :o AND state IN ('open', 'redriven')""",
            lambda: None,
        )


def _verify(demo: Demo) -> None:
    with demo.timed("compare with the dataset, check conservation"):
        with demo.owner.begin() as connection:
            withdrawn = set(
                connection.scalars(
                    text("SELECT id FROM lms.enrolments WHERE organisation_id = :o AND status = 'withdrawn'"),
                    {"o": demo.organisation_id},
                )
            )
        want = {demo.base + row.number for row in demo.rows if row.withdrawn}
        demo.compare("withdrawn after support acted", 10156, len(withdrawn))
        demo.compare("  withdrawn here, but not in the dataset", 0, len(withdrawn - want))
        demo.compare("  withdrawn in the dataset, but not here", 0, len(want - withdrawn))
        others = "SELECT count(*) FROM lms.enrolments WHERE organisation_id = :o AND status <> 'withdrawn'"
        demo.compare("other enrolments", 22437, demo.count(others))
        twice = """SELECT count(*) FROM (SELECT enrolment_id FROM withdrawals.outcomes WHERE organisation_id = :o
            AND outcome = 'withdrawn' AND reinstated_by IS NULL GROUP BY 1 HAVING count(*) > 1) twice"""
        demo.compare("enrolments withdrawn twice", 0, demo.count(twice))
        books = check(demo.database)
        right = books.totals["outcomes"] + books.totals["unfinished"] + books.totals["closed_whole"]
        demo.compare("accepted = accounted for", books.totals["accepted"], right)
        demo.compare("broken invariants", 0, len(books.violations))


def _report(demo: Demo, next_step: str) -> bool:
    good = all(expected == found for _, expected, found in demo.figures)
    rows = [
        (what, _format(what, expected), _format(what, found), "ok" if expected == found else "WRONG")
        for what, expected, found in demo.figures
    ]
    out.print()
    out.print(table("figure", "expected", "found", "", rows=rows))
    out.print()
    out.print(table("part", "seconds", rows=[(what, f"{seconds:.1f}") for what, seconds in demo.times]))
    out.print()
    out.print("Every figure is right." if good else "A figure is wrong.", style="green" if good else "red")
    if good:
        out.print(f"Next: {next_step}", soft_wrap=True)
    return good


def next_command(name: str, url: str, program: str) -> str:
    """The command that shows what the demo has done, to be pasted: the embedded servers have stopped by then."""
    embedded = "WITHDRAWALS_EMBEDDED=1 " if is_embedded(url) else ""
    return f'{embedded}{program} jobs list --organisation "{name}"'


def program(started: str) -> str:
    """What the user types to run this program, which was started as `sys.argv[0]` says."""
    if shutil.which("withdrawals"):
        return "withdrawals"
    return f"{shlex.quote(sys.executable)} -m ops" if Path(started).name == "__main__.py" else shlex.quote(started)


def _format(what: str, figure: int) -> str:
    return f"{figure:015x}" if what.endswith("unchanged") else f"{figure:,}"


def _wait(demo: Demo, unfinished: str, show: object) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while demo.count(unfinished) and time.monotonic() < deadline:
        if callable(show):
            show()
        time.sleep(0.05)
    if callable(show):
        show()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def new_name(owner: Database, base: str) -> str:
    """An unused name: every run gets an organisation of its own, and nothing is ever deleted."""
    with owner.begin() as connection:
        taken = set(connection.scalars(text("SELECT name FROM lms.organisations")))
    number = 1
    while (name := base + (f" {number}" if number > 1 else "")) in taken:
        number += 1
    return name


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
