"""What a fault may cost is time: with everything dying at random, each request is done once, and nothing else is.

`make chaos` runs these at full size.
"""

import os
import signal
import threading
from uuid import UUID, uuid4

import pytest

from ops.local.servers import LocalServers
from ops.local.supervisor import Supervisor
from tests.support import processes
from tests.support.chaos import Chaos, left_running
from tests.support.load import FULL, KILLS, WORKERS, Load, leader, service, slow_platform, time_passes, work_in_hand
from tests.support.processes import RELAY, WORKER, family, kill, process
from tests.support.racing import hold_enrolments, job_state, leases_run_out
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import processes as processes_on_record
from worker.queue.broker import make_broker
from worker.web.health import readiness

pytestmark = pytest.mark.timeout(900)

WAITING = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"""
"""Sessions that wait for a lock."""


@pytest.mark.scenario("workers-killed", small=True)
def test_worker_processes_killed_again_and_again_withdraw_everything_once(
    load: Load, chaos: Chaos, owner: Database
) -> None:
    def workers(running: Supervisor) -> list[int]:
        return [pid for name in WORKERS for pid in family(running.pid(name))]

    def vanished() -> str:
        found = load.world.one("SELECT count(*) FROM withdrawals.attempts WHERE result = 'vanished'")
        return "vanished" if found else ""

    def waits() -> str:
        return "waits" if load.world.one(WAITING) else ""

    with service() as running:
        with load.submitted_meanwhile():
            # First all, while one waits for a row of the platform, until a claim has vanished; then at random.
            with hold_enrolments(owner, load.active[0]):
                while eventually(lambda: vanished() or waits(), what="a worker waits for the row") == "waits":
                    for pid in workers(running):
                        kill(pid)
                    if not FULL:
                        leases_run_out(load.world)
            for _ in load.moments(KILLS):
                for pid in workers(running):
                    if chaos.random.random() < 0.4:
                        kill(pid)
        chaos.conclude(load.verdict())


def test_sigterm_lets_a_worker_finish_what_it_can_and_give_back_what_it_cannot(
    world: World, db: Database, owner: Database
) -> None:
    """With a lease of an hour: what was given back is decided at once, not when the lease has run out."""
    patient = {"WITHDRAWALS_LEASE_SECONDS": "3600", "WITHDRAWALS_SHUTDOWN_SECONDS": "60"}
    ids = world.enrolments(40)
    with process(RELAY, patient):
        with process(WORKER, patient | {"WITHDRAWALS_SHUTDOWN_SECONDS": "1"}) as worker:
            with owner.begin() as blocking:
                blocking.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
                blocking.exec_driver_sql(f"SELECT 1 FROM lms.enrolments WHERE id = {ids[20]} FOR UPDATE")
                job = world.submit(db, ids, chunk_size=40)
                eventually(lambda: world.one(WAITING), what="a worker waits for the row")
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(PATIENCE) == 0
            rows = world.run("SELECT state, claims, attempts FROM withdrawals.chunks")
            assert [tuple(row) for row in rows] == [("ready", 0, 0)]
            assert not world.run("SELECT * FROM withdrawals.attempts")
        with process(WORKER, patient) as worker, hold_enrolments(owner, ids[20]) as hold:
            eventually(lambda: world.one(WAITING), what="a worker waits for the row")
            worker.send_signal(signal.SIGTERM)
            hold.release()
            assert worker.wait(PATIENCE) == 0
            assert list(world.outcomes(job.id).values()) == ["withdrawn"] * 40
            assert not world.run("SELECT * FROM withdrawals.attempts")
            assert not world.run("SELECT * FROM withdrawals.processes WHERE kind = 'worker'")
        eventually(lambda: job_state(world, job.id) == "completed", what="the relay finishes the job")
    assert_balanced(db)


@pytest.mark.long
def test_a_worker_that_was_frozen_beyond_its_lease_comes_back_and_changes_nothing(world: World, db: Database) -> None:
    """Its transaction has been ended by the server, its chunk decided by another: what it resumes is void.

    A person with something special, here an enrolment of a pathway, is decided in several round trips. One message
    would be carried out, whoever sent it is frozen.

    Small: `test_a_worker_that_comes_back_late_decides_nothing` of the state machine.
    """
    slow_platform(world, seconds=0.02)
    ids = [world.enrolment("anna") for _ in range(40)]
    leased = {"WITHDRAWALS_LEASE_SECONDS": "6"}  # half of it is the time that the decision may take
    world.enrolment("anna", pathway_id=world.pathway())
    with process(RELAY, leased), process(WORKER, leased) as frozen:
        job_id = world.event(db, "deactivated", "anna").job_id or 0
        eventually(lambda: work_in_hand(world), what="work in hand")
        for pid in family(frozen.pid):
            os.kill(pid, signal.SIGSTOP)
        if not FULL:
            leases_run_out(world)  # waits until the server has ended the frozen transaction
        with process(WORKER, leased):
            eventually(
                lambda: job_state(world, job_id) == "completed_with_exceptions",
            )
        decided = world.run("SELECT * FROM withdrawals.outcomes ORDER BY enrolment_id")
        for pid in family(frozen.pid):
            os.kill(pid, signal.SIGCONT)
        second = world.submit(db, ids[:1])  # the only worker by now: when this is done, it is past the first
        eventually(lambda: world.outcomes(second.id) == {ids[0]: "already_withdrawn"})
        frozen.send_signal(signal.SIGTERM)
        assert frozen.wait(PATIENCE) == 0
    outcomes = "SELECT * FROM withdrawals.outcomes WHERE job_id = :job ORDER BY enrolment_id"
    assert world.run(outcomes, job=job_id) == decided
    assert world.one("SELECT count(*) FROM lms.changes") == len(ids)
    assert world.run("SELECT result FROM withdrawals.attempts") == [("vanished",)]
    assert_balanced(db)


def stop(pid: int, by: signal.Signals = signal.SIGSTOP) -> None:
    """Freeze a process and all that it started, or let it go on."""
    for one in family(pid):
        os.kill(one, by)


def _is_silent(world: World, relay: UUID | None) -> bool:
    """Always true. As if a frozen relay was silent for long; `make chaos` waits for that."""
    if not FULL:
        time_passes(world, relay)
    return True


def test_a_relay_that_is_frozen_or_killed_is_replaced_by_the_one_that_stands_by(
    world: World, db: Database, environment: Settings
) -> None:
    """It keeps its session and the lock, and is silent: the record decides, and nothing is done twice."""
    broker = make_broker(environment.broker_url.get_secret_value())

    def is_ready() -> bool:
        return bool(readiness(db, broker)["relay"]["ok"])

    with process(WORKER), process(RELAY) as frozen:
        eventually(is_ready, what="ready")
        before = leader(world)
        stop(frozen.pid)
        eventually(lambda: _is_silent(world, before) and not is_ready(), what="not ready")
        with db.begin(autocommit=True) as connection:
            processes_on_record.record_alive(connection, stands_by := uuid4(), "relay", 1)
        assert not is_ready(), "what stands by and does not lead does not make it ready"
        world.run("DELETE FROM withdrawals.processes WHERE id = :id", id=stands_by)
        stop(frozen.pid, signal.SIGCONT)
        eventually(is_ready, what="ready again")
        assert leader(world) == before
        with process(RELAY) as second:
            eventually(lambda: world.one("SELECT count(*) FROM withdrawals.processes WHERE kind = 'relay'") == 2)
            assert leader(world) == before
            stop(frozen.pid)
            slow_platform(world, seconds=0)
            ids = world.enrolments(10)
            job = world.submit(db, ids)
            eventually(
                lambda: _is_silent(world, before) and job_state(world, job.id) == "completed", what="work goes on"
            )
            after = leader(world)
            assert after not in (None, before)
            assert not world.one("SELECT locked FROM withdrawals.leader"), "the frozen one still holds the lock"
            stop(frozen.pid, signal.SIGCONT)
            eventually(lambda: world.one("SELECT locked FROM withdrawals.leader"), what="it has given the lock away")
            more = world.enrolments(10)
            job = world.submit(db, more, chunk_size=1)
            eventually(lambda: job_state(world, job.id) == "completed", what="work goes on after that")
            assert leader(world) == after
            for pid in family(second.pid):
                kill(pid)
            last = world.enrolments(10)
            job = world.submit(db, last)
            eventually(lambda: job_state(world, job.id) == "completed", what="work goes on with the one that woke up")
            assert leader(world) not in (None, after)
    assert world.one("SELECT count(*) FROM lms.changes") == len([*ids, *more, *last])
    assert_balanced(db)
    broker.close()


def test_a_producer_that_submits_while_postgresql_restarts_notices_nothing(
    world: World, producers: Database, servers: LocalServers
) -> None:
    producers.retry_seconds = PATIENCE  # on a busy machine the restart takes its time
    ids = world.enrolments(60)
    restarted = threading.Event()
    jobs: list[int] = []
    errors: list[BaseException] = []

    def produce() -> None:
        try:
            for enrolment_id in ids:
                jobs.append(world.submit(producers, [enrolment_id]).id)
                if len(jobs) == 20:
                    restarted.wait(PATIENCE)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=produce)
    with left_running(servers):
        thread.start()
        eventually(lambda: len(jobs) >= 5)
        processes.restart_postgres(servers, "immediate")
        restarted.set()
        thread.join(PATIENCE)
    assert not errors
    world.owner.engine.dispose()
    assert sorted(jobs) == sorted(row[0] for row in world.run("SELECT id FROM withdrawals.jobs"))
    assert len(jobs) == len(ids)
