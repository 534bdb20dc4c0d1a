"""What seldom goes wrong: a platform that swallows a write, a record that cannot be made."""

from structlog.testing import capture_logs

from schemas.reinstate import ReinstateRequest
from tests.support.racing import chunks, job_state, leases_run_out
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.reinstate import reinstate
from worker.queue import recovery
from worker.queue.drain import Drain
from worker.queue.heartbeat import Heartbeat


def on_update(world: World, table: str, body: str) -> None:
    """Let the database do this before each change of a row of `table`."""
    world.run(
        f"CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {body} END $$"
    )
    world.run(f"CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION public.meddle()")


def undisturbed(world: World) -> None:
    world.run("DROP FUNCTION public.meddle CASCADE")
    world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")


def test_an_update_that_the_platform_swallows_is_a_failed_attempt_and_no_outcome(
    db: Database, world: World, environment: Settings
) -> None:
    """A trigger of the platform may refuse in silence; nobody may read `withdrawn` where nothing was written."""
    job = world.submit(db, world.enrolments(2))
    on_update(world, "lms.enrolments", "RETURN NULL;")
    Drain(db, environment.model_copy(update={"backoff_seconds": 3600.0})).run()
    assert world.run("SELECT DISTINCT result, error_class FROM withdrawals.attempts") == [("failed", "RuntimeError")]
    assert world.outcomes(job.id) == {}
    assert_balanced(db)
    undisturbed(world)
    decide_due(db, environment)
    assert set(world.outcomes(job.id).values()) == {"withdrawn"}
    assert_balanced(db)


def test_an_undo_that_the_platform_swallows_is_a_failed_attempt_and_no_outcome(
    db: Database, world: World, environment: Settings
) -> None:
    done = world.submit(db, world.enrolments(2))
    decide_due(db, environment)
    undo = reinstate(db, world.requester(), done.id, ReinstateRequest()).job
    on_update(world, "lms.enrolments", "RETURN NULL;")
    Drain(db, environment.model_copy(update={"backoff_seconds": 3600.0})).run()
    assert world.run("SELECT DISTINCT result, error_class FROM withdrawals.attempts") == [("failed", "RuntimeError")]
    assert world.outcomes(undo.id) == {}
    undisturbed(world)
    decide_due(db, environment)
    assert set(world.outcomes(undo.id).values()) == {"reinstated"}
    assert_balanced(db)


def test_a_uniqueness_of_another_table_belongs_to_its_row(db: Database, world: World, environment: Settings) -> None:
    """Only the platform's own rule for enrolments is decided again at once; any other splits the chunk as an error."""
    first, second = world.enrolments(2)
    job = world.submit(db, [first, second])
    on_update(
        world,
        "lms.enrolments",
        f"IF new.id = {second} THEN RAISE unique_violation USING TABLE = 'elsewhere'; END IF; RETURN new;",
    )
    for _ in range(20):
        world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
        decide_due(db, environment)
    assert world.outcomes(job.id) == {first: "withdrawn", second: "failed"}
    assert {row.error_class for row in world.run("SELECT error_class FROM withdrawals.attempts")} == {"UniqueViolation"}
    assert_balanced(db)


def test_a_failure_that_cannot_be_recorded_is_left_to_the_end_of_the_lease(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(2))
    on_update(world, "withdrawals.attempts", "RAISE EXCEPTION 'full';")
    world.run("CREATE TRIGGER refuse BEFORE UPDATE ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION public.meddle()")
    with capture_logs() as entries:
        Drain(db, environment).run()
    assert "claim.left" in [entry["event"] for entry in entries]
    assert chunks(world, job.id) == [("claimed",)]
    undisturbed(world)
    leases_run_out(world)
    assert recovery.take_over(db, environment) == 1
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_process_that_cannot_sign_off_ends_all_the_same(db: Database, world: World) -> None:
    heartbeat = Heartbeat(db, "worker", threads=2)
    heartbeat.beat(notify=False)
    world.run("ALTER TABLE withdrawals.processes RENAME TO elsewhere")
    with capture_logs() as entries:
        heartbeat.stop()
    assert [entry["event"] for entry in entries] == ["heartbeat.not_signed_off"]
