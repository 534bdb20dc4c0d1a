"""Any number of relays may run; one leads.

DESIGN.md §2: "the relay alone publishes … tops the Redis list up to the smaller of due chunks and worker threads";
"`submit` (effective at once) or the relay (when due) admits a job".
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.support.due import count_due
from tests.support.load import leader, time_passes
from tests.support.racing import Threads, await_waiters, falls_due, held, job_state, workers
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.access import sessions
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.ledger import processes
from worker.queue import heartbeat, leadership
from worker.queue.broker import HintBroker, make_broker
from worker.queue.hints import NAMESPACE, QUEUE
from worker.queue.relay import Relay
from worker.web.health import readiness

MakeRelay = Callable[..., "Running"]


@pytest.fixture
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many heartbeats a second: the test waits for what they do, not for when."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.1)


class Running:
    """A relay in a thread."""

    def __init__(self, db: Database, broker: HintBroker, settings: Settings) -> None:
        self.relay = Relay(db, broker, settings)
        self.published = 0
        top_up = broker.top_up

        def counted(*wanted: Any, **of: Any) -> int:
            added = top_up(*wanted, **of)
            self.published += added
            return added

        broker.top_up = counted  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self.relay.run)
        self._thread.start()

    def stop(self) -> None:
        self.relay.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def _broker(settings: Settings) -> Iterator[HintBroker]:
    broker = make_broker(settings.broker_url.get_secret_value())
    yield broker
    broker.close()
    broker.client.close()


@pytest.fixture
def broker(environment: Settings) -> Iterator[HintBroker]:
    """The real Redis, to be looked into."""
    with _broker(environment) as made:
        yield made


@pytest.fixture
def start_relay(db: Database, environment: Settings) -> Iterator[MakeRelay]:
    """Starts relays, each with a broker of its own as in a process of its own; all are stopped in the end."""
    with ExitStack() as stack:

        def make(settings: Settings = environment) -> Running:
            made = Running(db, stack.enter_context(_broker(environment)), settings)
            stack.callback(made.stop)
            return made

        yield make


def _leaders(world: World) -> int:
    """Sessions that hold the leader's lock; steps of a round take other advisory locks for a moment."""
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND objid = :key"
    here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return int(world.one(f"{held} AND {here}", key=leadership.LEADER_LOCK))


def _hints(broker: HintBroker) -> int:
    length = broker.client.llen(f"{NAMESPACE}:{QUEUE}")
    assert isinstance(length, int)
    return length


def _with_threads(db: Database, count: int) -> None:
    """As if a worker process with so many threads was there, for as long as the test takes: nobody beats for it."""
    with db.begin(autocommit=True) as connection:
        processes.record_alive(connection, uuid4(), "worker", count)
        connection.execute(text("UPDATE withdrawals.processes SET seen_at = now() + interval '1 hour'"))


def test_of_two_relays_one_leads_and_the_other_takes_over_when_it_stops(
    db: Database, world: World, broker: HintBroker, start_relay: MakeRelay
) -> None:
    """Both are seen alive; only the leader publishes, before and after the change."""
    first = start_relay()
    # By the record: between its lock and its record another relay may come first.
    eventually(lambda: world.one("SELECT process_id FROM withdrawals.leader"), what="the first leads")
    second = start_relay()
    eventually(lambda: world.one("SELECT count(*) FROM withdrawals.processes WHERE kind = 'relay'") == 2)
    world.submit(db, world.enrolments(2), chunk_size=1)
    eventually(lambda: _hints(broker) == 1, what="a hint")
    eventually(lambda: first.published > 0, what="the first has published")
    assert second.published == 0
    assert _leaders(world) == 1
    first.stop()
    eventually(lambda: _leaders(world) == 1, what="the second leads")
    broker.client.flushall()
    eventually(lambda: _hints(broker) == 1, what="the second publishes")
    eventually(lambda: second.published > 0, what="the second has published")
    alone = "SELECT count(*) FROM withdrawals.processes WHERE kind = 'relay'"
    eventually(lambda: world.one(alone) == 1, what="the first, which has given way, has ended")
    assert_balanced(db)


def test_a_leader_whose_session_is_ended_gives_way_or_leads_again(
    db: Database, world: World, broker: HintBroker, start_relay: MakeRelay
) -> None:
    """The lock goes with its session; never do two hold it, and hints go on.

    Until the old leader meets its dead session both may publish, so there may be a hint too many; it says
    nothing, and costs a worker one look.
    """
    for _ in range(2):
        start_relay()
    eventually(lambda: _leaders(world) == 1, what="one leads")
    world.run(
        """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())"""
    )
    eventually(lambda: _leaders(world) == 1, what="one leads again")
    world.submit(db, world.enrolments(1))
    eventually(lambda: _hints(broker) in (1, 2), what="a hint")
    assert_balanced(db)


def test_a_leader_whose_step_hangs_is_replaced(
    world: World,
    environment: Settings,
    quick_heartbeats: None,
    start_relay: MakeRelay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its heartbeat has a thread of its own, and beats only while the rounds get on."""
    monkeypatch.setattr(leadership, "_SHORTEST_STALL", 0.0)
    hangs, released = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        if not hangs.is_set():
            hangs.set()
            assert released.wait(PATIENCE)

    monkeypatch.setattr(sessions, "delete_expired", hang)
    try:
        with capture_logs() as logs:
            first = start_relay(environment.model_copy(update={"lease_seconds": 1}))
            assert hangs.wait(PATIENCE)
            before = leader(world)
            second = start_relay()
            eventually(lambda: any(line["event"] == "relay.stalled" for line in logs), what="it beats no more")
        time_passes(world, before)
        eventually(lambda: leader(world) not in (None, before), what="the other leads")
    finally:
        released.set()
    eventually(lambda: world.one("SELECT locked FROM withdrawals.leader"), what="the first has given the lock away")
    assert leader(world) == second.relay._heartbeat.process_id != first.relay._heartbeat.process_id


def test_a_slow_step_does_not_stop_the_leader_s_heartbeat(
    world: World, quick_heartbeats: None, start_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, released = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        hangs.set()
        assert released.wait(PATIENCE)

    monkeypatch.setattr(sessions, "delete_expired", hang)
    start_relay()
    try:
        assert hangs.wait(PATIENCE)
        seen = world.one("SELECT seen_at FROM withdrawals.leader")
        eventually(lambda: world.one("SELECT seen_at FROM withdrawals.leader") > seen, what="a heartbeat meanwhile")
    finally:
        released.set()


def test_a_step_that_fails_again_and_again_is_recorded_until_it_succeeds(
    world: World,
    db: Database,
    broker: HintBroker,
    quick_heartbeats: None,
    start_relay: MakeRelay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing_often() -> object:
        failing = readiness(db, broker)["relay"]["failing"]
        return failing if isinstance(failing, list) and failing and failing[0]["failures"] >= 3 else None

    def fail(*_: object) -> None:
        with db.begin() as connection:
            connection.exec_driver_sql("SELECT 'anna@example.com'::integer")

    with monkeypatch.context() as broken:
        broken.setattr(remedies, "redrive_known_learners", fail)
        start_relay()
        found = eventually(failing_often, what="a step that fails again and again")
    assert isinstance(found, list)
    assert [step["step"] for step in found] == ["learners"]
    assert "anna" not in str(found)
    assert readiness(db, broker)["relay"]["ok"], "work flows"
    eventually(lambda: not readiness(db, broker)["relay"]["failing"], what="it succeeds")


def test_a_relay_over_a_database_that_is_read_only_waits_until_it_can_lead(
    world: World, start_relay: MakeRelay
) -> None:
    name = world.one("SELECT current_database()")
    world.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # for the sessions that begin now
    with capture_logs() as logs:
        relay = start_relay()
        eventually(lambda: any(line["event"] == "relay.database_unreachable" for line in logs), what="it has tried")
    assert leader(world) is None
    world.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    world.run(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'withdrawals%' AND pid <> pg_backend_pid()"""
    )
    eventually(lambda: leader(world) == relay.relay._heartbeat.process_id, what="it leads")


def test_the_server_watches_the_leader_s_connection(environment: Settings) -> None:
    """The session of a host that vanished ends within half a minute, and its lock with it.

    Over a Unix socket, as here, the server shows no values, but that the session has set them.
    """
    names = ["tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout"]
    with leadership.open_session(environment) as session:
        query = "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp_%' ORDER BY name"
        assert [row[0] for row in session.execute(query)] == names


@pytest.mark.parametrize(
    ("due", "alone", "threads_of_workers", "want"), [(3, True, 8, 3), (20, True, 4, 4), (20, False, 4, 1)]
)
def test_hints_never_exceed_the_smaller_of_due_claims_and_threads(
    db: Database,
    world: World,
    broker: HintBroker,
    start_relay: MakeRelay,
    due: int,
    alone: bool,
    threads_of_workers: int,
    want: int,
) -> None:
    """Two relays, a storm of notifications; hints are taken away and made again, and never pile up."""
    _with_threads(db, threads_of_workers)
    for _ in range(2):
        start_relay()
    world.run("ALTER TABLE withdrawals.chunks ALTER alone SET DEFAULT " + str(alone))
    for _ in range(due):
        world.submit(db, world.enrolments(1))
    most = 0

    def full() -> bool:
        nonlocal most
        most = max(most, _hints(broker))
        return _hints(broker) == want

    eventually(full, what="as many hints as wanted")
    for _ in range(5):
        broker.client.lpop(f"{NAMESPACE}:{QUEUE}")
        with db.begin() as connection:
            assert count_due(connection, most=100) == due
        eventually(full, what="topped up again")
    assert most <= want
    assert_balanced(db)


def test_a_scheduled_job_is_admitted_once_when_it_falls_due(
    db: Database, world: World, environment: Settings, start_relay: MakeRelay
) -> None:
    """Two relays and two workers; it is admitted at its time, decided once, and completed."""
    due = world.one("SELECT clock_timestamp()") + timedelta(hours=1)
    ids = world.enrolments(5)
    job = world.submit(db, ids, effective_at=due, chunk_size=2)
    assert job.state == "scheduled"
    for _ in range(2):
        start_relay()
    with workers(db, environment, 2):
        falls_due(world)
        eventually(lambda: job_state(world, job.id) == "completed", what="the job completed")
    assert world.one("SELECT admitted_at >= effective_at FROM withdrawals.jobs WHERE id = :id", id=job.id)
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    assert_balanced(db)


def test_two_relays_that_admit_one_job_at_once_admit_it_once(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads, broker: HintBroker
) -> None:
    """Both found it due; the organisation's settings row lets them in one after the other."""
    ids = world.enrolments(3)
    due = world.one("SELECT clock_timestamp()") + timedelta(hours=1)
    job = world.submit(slow_db, ids, effective_at=due, chunk_size=1)
    world.run(
        "INSERT INTO withdrawals.organisation_settings VALUES (:o) ON CONFLICT DO NOTHING", o=world.organisation_id
    )
    falls_due(world)
    with held(owner, "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE") as hold:
        relays = [threads.go(Relay(slow_db, broker, environment).sweep) for _ in range(2)]
        await_waiters(world, 2)
        hold.release()
        for relay in relays:
            relay.result(PATIENCE)
    assert job_state(world, job.id) == "queued"
    with slow_db.begin() as connection:
        assert count_due(connection, most=100) == 3
    with workers(slow_db, environment, 2):
        eventually(lambda: job_state(world, job.id) == "completed", what="the job completed")
    assert_balanced(slow_db)


def test_a_job_that_is_cancelled_while_the_relay_admits_it_stays_cancelled(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads, broker: HintBroker
) -> None:
    """The relay found it due and waits for its turn; by then it is cancelled, and nothing becomes ready."""
    from worker.jobs import control

    due = world.one("SELECT clock_timestamp()") + timedelta(hours=1)
    job = world.submit(slow_db, world.enrolments(3), effective_at=due, chunk_size=1)
    world.run(
        "INSERT INTO withdrawals.organisation_settings VALUES (:o) ON CONFLICT DO NOTHING", o=world.organisation_id
    )
    falls_due(world)
    with held(owner, "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE") as hold:
        sweep = threads.go(Relay(slow_db, broker, environment).sweep)
        await_waiters(world)
        control.cancel(slow_db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
        hold.release()
        sweep.result(PATIENCE)
    assert job_state(world, job.id) == "cancelled"
    assert world.run("SELECT DISTINCT state FROM withdrawals.chunks") == [("cancelled",)]
    assert_balanced(slow_db)
