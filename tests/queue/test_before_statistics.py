"""What is done right after tables were filled, when nothing has told the planner yet how many rows they have.

A restored database and a first load are like this until autovacuum has come by. A plan that reads a whole table for
each row is quadratic: it is told from a good one by the rows read at two sizes, without a clock.
"""

import io
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from schemas.dead_letters import LetterFilter
from schemas.jobs import FileRequest
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.support.ageing import years_pass
from tests.support.costs import counting
from tests.support.incoming import incoming, make_registered
from tests.world import World, apply_inbox, decide_due
from worker.config import Settings
from worker.database import BY_INDEX, Database
from worker.dead_letters import run_steps, runs
from worker.jobs import reinstate
from worker.jobs.files import submit as files
from worker.ledger import approvals, books
from worker.ledger import jobs as job_rows
from worker.ledger.hr_sources import RegisteredSource
from worker.people.inbox import Inbox
from worker.reports.prune import prune

pytestmark = pytest.mark.counts

FEW, MANY = 300, 2400
GROWTH = MANY / FEW * 1.5


@pytest.fixture
def workers_db(environment: Settings) -> Iterator[Database]:
    """Connections as those of a worker."""
    with closing(Database(environment, pool_size=3, planner_off=BY_INDEX)) as database:
        yield database


def test_a_reinstate_reads_what_it_decides(
    db: Database, workers_db: Database, world: World, environment: Settings
) -> None:
    reads = []
    for size in (FEW, MANY):
        ids = world.enrolments(size)
        job = world.submit(db, ids)
        decide_due(workers_db, environment)
        part = ReinstateFilter(enrolment_ids=ids[: size // 2])
        reinstate.reinstate(db, world.requester(), job.id, ReinstateRequest(filter=part))
        with counting(workers_db) as costs:
            decide_due(workers_db, environment)
        assert world.status(ids[0]) == "in_progress"
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


def test_a_file_reads_what_its_rows_name(db: Database, world: World) -> None:
    reads = []
    for size in (FEW, MANY):
        ids = world.enrolments(size)
        rows = world.run(
            """SELECT l.external_id, s.code FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id
            JOIN lms.series s ON s.id = e.series_id WHERE e.id = ANY(:ids)""",
            ids=ids,
        )
        sheet = "\n".join(["Learner,Series", *(f"{learner},{code}" for learner, code in rows)])
        with counting(db) as costs:
            found = files.plan_file(
                db, world.organisation_id, FileRequest(reason="not_required"), io.BytesIO(sheet.encode())
            )
        assert found.check.good == size, found.check
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


@pytest.mark.parametrize(("act", "sizes"), [("redrive", (200, 1600)), ("cascade", (50, 400))])
def test_a_run_reads_what_its_letters_name(
    db: Database, workers_db: Database, world: World, environment: Settings, act: str, sizes: tuple[int, int]
) -> None:
    """A redrive is the daily one, which looks first what an attempt would settle."""
    reads = []
    for size in sizes:
        ids = _letters(db, workers_db, world, environment, size)
        every, org = LetterFilter(), world.organisation_id
        with counting(db) as asked, counting(workers_db) as decided:
            assert runs.preview(db, organisation_id=org, act=act, wanted=every)["letters"] == size
            if act == "redrive":
                world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = ANY(:ids)", ids=ids)
                world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '2 days'")
                run_steps.redrive_changed(db)
            else:
                runs.start(db, organisation_id=org, act=act, wanted=every, actor="test:x", note="agreed", door="cli")
            while world.one("SELECT count(*) FROM withdrawals.runs WHERE finished_at IS NULL"):
                world.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 minute', rate = 1000")
                run_steps.step_all(db)
                decide_due(workers_db, environment)
        assert world.one("SELECT count(*) FROM withdrawals.dead_letters WHERE state <> 'resolved'") == 0
        reads.append(asked.rows_read + decided.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


def _letters(db: Database, workers_db: Database, world: World, environment: Settings, size: int) -> list[int]:
    """Enrolments that a pathway owns, each with an open letter and with a sibling in the pathway."""
    ids = world.enrolments(size)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=world.pathway(), ids=ids)
    world.run(
        """WITH s AS (INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :c, :c) RETURNING id)
        INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
        SELECT e.organisation_id, e.learner_id, s.id, e.pathway_id, e.status FROM lms.enrolments e, s
        WHERE e.id = ANY(:ids)""",
        o=world.organisation_id,
        c=f"sibling {size}",
        ids=ids,
    )
    world.submit(db, ids)
    decide_due(workers_db, environment)
    return ids


def test_events_read_what_they_are_about(
    db: Database, workers_db: Database, world: World, environment: Settings
) -> None:
    """People leave, and come back before it is decided."""
    source, reads = make_registered(db, environment, world.organisation_id), []
    for size in (FEW, MANY):
        people = _people(world, world.enrolments(size))
        with counting(workers_db) as costs:
            _send(db, source, "deactivated", people, 0)
            apply_inbox(workers_db, environment)
            _send(db, source, "reactivated", people, 1)
            decide_due(workers_db, environment)
        superseded = (
            "SELECT count(*) FROM withdrawals.jobs WHERE state = 'superseded' AND learner_external_id = ANY(:p)"
        )
        assert world.one(superseded, p=people) == size
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


def test_people_who_leave_read_what_they_are_enrolled_in(
    db: Database, workers_db: Database, world: World, environment: Settings
) -> None:
    """The platform shows them as active again, so that they are decided on the long way."""
    source, reads = make_registered(db, environment, world.organisation_id), []
    for size in (FEW, MANY):
        ids = world.enrolments(size)
        _send(db, source, "deactivated", _people(world, ids), 0)
        apply_inbox(workers_db, environment)
        world.run("UPDATE lms.learners SET active = true")
        with counting(workers_db) as costs:
            decide_due(workers_db, environment)
        assert world.status(ids[0]) == "withdrawn"
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


def _people(world: World, ids: list[int]) -> list[str]:
    """Who is enrolled."""
    found = (
        "SELECT l.external_id FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id WHERE e.id = ANY(:ids)"
    )
    return [row[0] for row in world.run(found, ids=ids)]


def _send(db: Database, source: RegisteredSource, kind: str, people: list[str], minute: int) -> None:
    """An event of each."""
    with closing(Inbox(db)) as box:
        for answer in [box.submit(source, incoming(person, kind, minute)) for person in people]:
            answer.result()


def test_a_request_reads_its_own_enrolments_where_series_have_a_limit(db: Database, world: World) -> None:
    with db.begin() as connection:
        job_rows.lock_settings(connection, world.organisation_id)
        limit = {"act": "withdraw_series", "source": None, "alone_up_to": 10_000}
        approvals.set_rules(connection, world.organisation_id, [limit])
    reads = []
    for size in (FEW, MANY):
        ids = world.enrolments(size)
        with counting(db) as costs:
            world.submit(db, ids[:1])
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * 1.5, reads


def test_a_pruned_job_reads_its_own_letters(
    db: Database, workers_db: Database, world: World, environment: Settings
) -> None:
    reads = []
    for size in (FEW, MANY):
        part = World(world.owner, world.organisation(f"of {size}"))
        part.submit(db, range(10**9, 10**9 + size))  # a letter each, which stays open
        for enrolment_id in part.enrolments(size // 20):
            part.submit(db, [enrolment_id])
        decide_due(workers_db, environment)
        years_pass(world.owner, days=100, organisation_id=part.organisation_id)
        with counting(db) as costs:
            gone = sum(part.rows for part in prune(db, {"jobs": 90}, actor="test:x"))
        assert gone == size // 20
        reads.append(costs.rows_read)
    assert reads[1] <= reads[0] * GROWTH, reads


def test_the_books_hold_no_row_against_all_others(
    db: Database, workers_db: Database, world: World, environment: Settings
) -> None:
    """Two sides that were read once are compared without reading: the server says how many pairs were in vain."""
    world.submit(db, world.enrolments(MANY), chunk_size=1)
    decide_due(workers_db, environment)
    values = {"role": "withdrawals_service", "furthest": timedelta(days=1), "most": 20}
    for scan in books.SCANS:
        statement = scan.statement("{column} BETWEEN 0 AND 9223372036854775807")
        explained = world.run(f"EXPLAIN (ANALYZE) {statement}", **values)
        vain = re.findall(r"Rows Removed by Join Filter: ([0-9]+)", "\n".join(row[0] for row in explained))
        assert sum(map(int, vain)) <= 10 * MANY, scan.rules[0].code
