"""The failpoints themselves: they are everywhere, they act once, and they act in child processes.

A fault test is worth no more than this: if a name were never passed, its kill would show nothing.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc

from tests.support import failpoints
from tests.support.failpoints import armed, recording
from tests.support.incoming import incoming, make_registered, post, results, waiting
from tests.support.load import DEADLINE, FULL
from tests.support.processes import RELAY, WORKER, process
from tests.support.racing import chunks, due_now, finish, job_state, leases_run_out
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.queue import recovery
from worker.queue.drain import Drain

IN_ORDER = [
    "job_sets.accept_at_once:before",
    "job_sets.accept_at_once:after",
    "claims.claim_now:before",
    "claims.claim_now:after",
    "decide.decide_plain_at_once:before",
    "decide.decide_plain_at_once:after",
    "jobs.finish:before",
    "jobs.finish:after",
    "drain.finish:commit:before",
    "drain.finish:commit:after",
]
"""Some of what one small job passes, in this order."""


@pytest.fixture(autouse=True)
def _taken_out() -> Iterator[None]:
    yield
    failpoints.uninstall()


def test_a_job_passes_a_failpoint_at_every_statement_and_commit(
    db: Database, world: World, environment: Settings
) -> None:
    with recording() as names:
        job = world.submit(db, world.enrolments(3))
        decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    passed = iter(names)
    assert [name for name in IN_ORDER if name in passed] == IN_ORDER
    assert failpoints.names_seen() == names
    before = [name.removesuffix(":before") for name in names if name.endswith(":before")]
    after = [name.removesuffix(":after") for name in names if name.endswith(":after")]
    assert sorted(before) == sorted(after)
    assert not [name for name in names if name.startswith(("world.", "racing."))], "the test's own statements have none"


def test_every_statement_function_of_claims_that_a_failure_needs_is_a_failpoint(
    db: Database, world: World, environment: Settings
) -> None:
    world.submit(db, world.enrolments(2))
    with recording() as names, armed("decide.decide_plain_at_once:before", failpoints.row_error):
        decide_due(db, environment)
        due_now(world)
        decide_due(db, environment)
    functions = {name.rpartition(":")[0] for name in names}
    assert {"claimed.record_attempt", "claimed.split", "claimed.lock", "claims.claim_now"} <= functions
    assert_balanced(db)


@pytest.mark.parametrize("action", ["serialization_failure", "deadlock", "lose_connection", "terminate_backend"])
@pytest.mark.parametrize(
    "name", ["decide.decide_plain_at_once:before", "decide.decide_plain_at_once:after", "drain.finish:commit:before"]
)
def test_a_passing_error_at_a_failpoint_is_repeated_at_once(
    db: Database, world: World, environment: Settings, name: str, action: str
) -> None:
    job = world.submit(db, world.enrolments(3))
    with armed(name, failpoints.ACTIONS[action]) as failpoint:
        decide_due(db, environment)
    assert failpoint.fired.is_set()
    assert job_state(world, job.id) == "completed"
    assert not world.run("SELECT * FROM withdrawals.attempts"), "it was no attempt that failed"


def test_a_lost_connection_is_one_that_sqlalchemy_recognises(db: Database, world: World) -> None:
    with (
        armed("jobs.finish:before", failpoints.lose_connection),
        pytest.raises(sqlalchemy.exc.OperationalError) as lost,
        db.begin() as connection,
    ):
        from worker.ledger import jobs

        jobs.finish(connection, [1])
    assert lost.value.connection_invalidated
    assert isinstance(lost.value.orig, psycopg.OperationalError)


def test_the_nth_pass_alone_is_hit(db: Database, world: World) -> None:
    with armed("jobs.finish:before", failpoints.bug, nth=2) as failpoint:
        finish(db, 1)
        assert not failpoint.fired.is_set()
        with pytest.raises(RuntimeError):
            finish(db, 1)
        finish(db, 1)
    assert failpoint.passed == 2


def test_a_pause_holds_a_transaction_between_two_statements(db: Database, world: World, environment: Settings) -> None:
    job = world.submit(db, world.enrolments(2))
    barrier = threading.Barrier(2)
    with armed("jobs.finish:after", failpoints.pause(barrier)):
        worker = threading.Thread(target=Drain(db, environment).run)
        worker.start()
        barrier.wait(failpoints.WAIT_SECONDS)
        assert job_state(world, job.id) == "queued", "finished, and not committed"
        barrier.wait(failpoints.WAIT_SECONDS)
        worker.join(failpoints.WAIT_SECONDS)
    assert job_state(world, job.id) == "completed"


def test_without_an_installation_nothing_of_the_driver_is_replaced() -> None:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    original = PGDialect_psycopg.do_execute, PGDialect_psycopg.do_commit, psycopg.Cursor.copy
    failpoints.install()
    assert PGDialect_psycopg.do_execute is not original[0]
    failpoints.uninstall()
    assert (PGDialect_psycopg.do_execute, PGDialect_psycopg.do_commit, psycopg.Cursor.copy) == original


LONG = [pytest.mark.long]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("decide.decide_plain_at_once:before", marks=LONG),
        pytest.param("claims.claim_now:after", marks=LONG),
        pytest.param("decide.decide_plain_at_once:after", marks=LONG),
    ],
)
def test_a_worker_that_is_killed_at_a_failpoint_leaves_its_work_to_another(
    db: Database, world: World, tmp_path: Path, name: str
) -> None:
    """The child has no code for it: an environment variable puts the failpoint under SQLAlchemy at its start.

    Small: workers are killed in test_faults.py, and each statement fails in the state machine.
    """
    fired, record = tmp_path / "fired", tmp_path / "record"
    job = world.submit(db, world.enrolments(5))
    with process(RELAY), process(WORKER, failpoints.environment(name, "kill", fired=fired, record=record)) as first:
        eventually(fired.exists, within=DEADLINE, what="the kill")
        first.wait(60)
        if name != "decide.decide_plain_at_once:after":
            assert world.outcomes(job.id) == {}
        if not FULL:
            leases_run_out(world)
        with process(WORKER, {"FAILPOINT_RECORD": str(record), "PYTHONPATH": str(failpoints.SITE)}):
            done = lambda: job_state(world, job.id) == "completed"  # noqa: E731
            eventually(done, within=DEADLINE, what="the job done by another worker")
    passed = record.read_text(encoding="utf-8").splitlines()
    assert passed.count("decide.decide_plain_at_once:after") == 1
    assert set(world.outcomes(job.id).values()) == {"withdrawn"}
    states = chunks(world, job.id, "state, claims")
    assert states == [("done", 1 if name == "decide.decide_plain_at_once:after" else 2)]
    assert_balanced(db)


@pytest.mark.long
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("what", ["named", "persons"])
def test_a_worker_that_is_killed_before_or_after_a_message_that_decides_leaves_nothing_half_done(
    db: Database, world: World, environment: Settings, tmp_path: Path, what: str, side: str
) -> None:
    """After it nobody has to end the jobs any more. Small: `test_killed_messages.py`."""
    fired = tmp_path / "fired"
    ids = [world.enrolment(person) for person in ("anna", "ben", "cleo")]
    if what == "persons":
        jobs = [world.event(db, "deactivated", person).job_id or 0 for person in ("anna", "ben", "cleo")]
    else:
        jobs = [world.submit(db, [one]).id for one in ids]
    # The first claim of a run is decided in its own message, if it names enrolments.
    name = f"decide_persons.decide_persons:{side}" if what == "persons" else f"claims.claim_now:{side}"
    with process(RELAY), process(WORKER, failpoints.environment(name, "kill", fired=fired)) as first:
        eventually(fired.exists, within=DEADLINE, what="the kill")
        first.wait(60)
    done = side == "after"
    assert {job_state(world, job) for job in jobs} == {"completed" if done else "queued"}
    assert {world.status(one) for one in ids} == {"withdrawn" if done else "in_progress"}
    leases_run_out(world)
    recovery.take_over(db, environment)
    decide_due(db, environment)
    for job in jobs:
        assert job_state(world, job) == "completed"
        assert chunks(world, job, "state, claims") == [("done", 2 if what == "persons" and not done else 1)]
    assert world.one("SELECT count(*) FROM withdrawals.outcomes WHERE outcome = 'withdrawn'") == len(ids)
    assert_balanced(db)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("inbox_sets.take:after", marks=LONG),
        pytest.param("inbox.step:commit:before", marks=LONG),
        pytest.param("inbox.step:commit:after", marks=LONG),
    ],
)
def test_a_worker_that_is_killed_while_it_applies_the_inbox_leaves_it_to_another(
    db: Database, world: World, environment: Settings, tmp_path: Path, name: str
) -> None:
    """Small: tests/queue/test_inbox_drain.py, with the same failpoints in one process."""
    fired = tmp_path / "fired"
    persons = [f"person-{number}" for number in range(5)]
    for person in persons:
        world.enrolment(person)
    source = make_registered(db, environment, world.organisation_id)
    post(db, source, *map(incoming, persons))
    with process(RELAY), process(WORKER, failpoints.environment(name, "kill", fired=fired)) as first:
        eventually(fired.exists, within=DEADLINE, what="the kill")
        first.wait(60)
        if name == "inbox_sets.take:after":  # else it may have been the commit of a step that found nothing
            assert len(waiting(world)) == 5
        with process(WORKER):
            eventually(
                lambda: world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 5,
                within=DEADLINE,
                what="everybody withdrawn by another worker",
            )
    assert results(world) == [("accepted", False)] * 5
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 5
    assert_balanced(db)
