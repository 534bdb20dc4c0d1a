"""`withdrawals demo brake`: the brake holds a faulty HR feed until a second person releases its jobs."""

import time

from rich.text import Text
from sqlalchemy import text

from ops.cli.common import out, table
from ops.cli.servers import local_dir
from ops.demo.run import free_port, new_name
from ops.local.supervisor import Supervisor, procfile_commands
from schemas.control import BrakeSetting
from schemas.events import PersonEvent
from schemas.job_filter import ReleaseFilter
from schemas.jobs import JobRequest
from worker.config import Settings
from worker.database import Database
from worker.errors import OwnJobError
from worker.jobs import brake, control
from worker.jobs.show import show
from worker.jobs.submit import Requester, submit
from worker.people import events
from worker.reports.books import check

LEARNERS, LISTED, LEAVERS = 1000, 150, 100
_TIMEOUT = 60.0  # seconds
_ENROL = """
INSERT INTO lms.organisations (name) VALUES (:name);
INSERT INTO lms.learners (organisation_id, external_id)
    SELECT o.id, 'person-' || n FROM lms.organisations o, generate_series(1, 1000) n WHERE o.name = :name;
INSERT INTO lms.series (organisation_id, code, title)
    SELECT o.id, 'safety', 'Safety at work' FROM lms.organisations o WHERE o.name = :name;
INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
    SELECT o.id, l.id, s.id, 'in_progress' FROM lms.organisations o
    JOIN lms.learners l ON l.organisation_id = o.id JOIN lms.series s ON s.organisation_id = o.id
    WHERE o.name = :name ORDER BY l.id
"""


def run(current: Settings) -> bool:
    """Run the demo. Returns whether every figure is right."""
    database, owner = Database(current), Database(current, as_owner=True)
    log = local_dir() / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Supervisor(procfile_commands(), {"WITHDRAWALS_PORT": str(free_port())}, output=log):
            figures = _play(database, owner)
    finally:
        database.close()
        owner.close()
    rows = [(what, want, found, "ok" if want == found else "WRONG") for what, want, found in figures]
    out.print()
    out.print(table("figure", "expected", "found", "", rows=rows))
    out.print()
    good = all(want == found for _, want, found in figures)
    out.print("Every figure is right." if good else "A figure is wrong.", style="green" if good else "red")
    return good


def _play(database: Database, owner: Database) -> list[tuple[str, int, int]]:
    name = new_name(owner, "Brake demo")
    org, ids = _enrol(owner, name)
    limits = brake.set_limits(
        database, organisation_id=org, wanted=BrakeSetting(floor=100, share=0.2), actor="demo:approver"
    )
    figures: list[tuple[str, int, int]] = []

    def count(what: str, want: int, query: str) -> None:
        figures.append((what, want, _wait_for(owner, query, org, want)))

    out.print(
        f"Organisation {name!r}: {limits.population:,} learners. The brake holds more than 100 learners and 20 % a day."
    )
    listed = JobRequest(reason="not_required", enrolment_ids=ids[:LISTED])
    submit(database, Requester(org, "demo:administrator", "api", "list"), listed)
    out.print(f"An administrator withdraws {LISTED}: more than 100, but only 15 % of the learners. The job runs.")
    for number in range(LEARNERS - LEAVERS + 1, LEARNERS + 1):
        event = PersonEvent(type="user.deactivated", external_id=f"person-{number}")
        events.record(database, Requester(org, "demo:hr-feed", "hr:demo", f"leaver-{number}"), "demo", event)
    out.print(f"Then an HR system deactivates {LEAVERS} more, one event at a time. The first 50 stay within the limit.")
    count("withdrawn before the release", 200, _WITHDRAWN)
    count("jobs held by the brake", 50, _HELD)
    first = _number(owner, _FIRST_HELD, org)
    if first:
        out.print(Text(f"Job {first}: {show(database, organisation_id=org, job_id=first).held_why}"))
    figures.append(("releases by the requester", 0, _own_releases(database, org, first)))
    wanted = ReleaseFilter(held_because="brake", source="hr")
    done = control.release_matching(database, organisation_id=org, wanted=wanted, actor="demo:approver")
    out.print(f"A second person checks the list and releases {done.released} jobs with one command.")
    figures.append(("jobs released", 50, done.released))
    count("withdrawn after the release", 250, _WITHDRAWN)
    count("unfinished jobs", 0, _UNFINISHED)
    count("learners made inactive", LEAVERS, _INACTIVE)
    figures.append(("learners counted in the window", 250, brake.show(database, organisation_id=org).volume))
    figures.append(("broken invariants", 0, len(check(database).violations)))
    return figures


_WITHDRAWN = "SELECT count(*) FROM lms.enrolments WHERE organisation_id = :o AND status = 'withdrawn'"
_HELD = "SELECT count(*) FROM withdrawals.jobs WHERE organisation_id = :o AND state = 'held' AND held_because = 'brake'"
_UNFINISHED = "SELECT count(*) FROM withdrawals.jobs WHERE organisation_id = :o AND finished_at IS NULL"
_INACTIVE = "SELECT count(*) FROM lms.learners WHERE organisation_id = :o AND NOT active"
_FIRST_HELD = "SELECT min(id) FROM withdrawals.jobs WHERE organisation_id = :o AND state = 'held'"


def _enrol(owner: Database, name: str) -> tuple[int, list[int]]:
    with owner.begin() as connection:
        for statement in _ENROL.split(";\n"):
            connection.execute(text(statement), {"name": name})
        query = text("SELECT id FROM lms.organisations WHERE name = :name")
        org = int(connection.scalar(query, {"name": name}) or 0)
        ids = connection.scalars(
            text("SELECT id FROM lms.enrolments WHERE organisation_id = :o ORDER BY id"), {"o": org}
        )
        return org, list(ids)


def _own_releases(database: Database, org: int, job_id: int) -> int:
    try:
        control.release(database, organisation_id=org, job_id=job_id, actor="demo:hr-feed")
    except OwnJobError as error:
        out.print(Text(f"The requester cannot release them: {error}"))
        return 0
    return 1


def _wait_for(owner: Database, query: str, org: int, want: int) -> int:
    """The count, as soon as it is `want`, or after the time limit."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        found = _number(owner, query, org)
        if found == want or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _number(owner: Database, query: str, org: int) -> int:
    with owner.begin() as connection:
        return int(connection.scalar(text(query), {"o": org}) or 0)
