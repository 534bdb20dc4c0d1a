"""A database that takes no writes is a passing fault, and of several servers the one that takes them is found."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from ops.local.servers import LocalServers
from tests.support.clusters import Pair, directory, primary_and_standby, read_only
from tests.support.commandline import withdrawals
from tests.support.processes import RELAY, WORKER, process
from tests.support.racing import job_state
from tests.world import World, assert_balanced, eventually
from worker.config import Settings, settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.queue.relay import Relay


@contextmanager
def relaying(environment: Settings) -> Iterator[threading.Thread]:
    """A relay in a thread, with connections of its own."""
    database, broker = Database(environment, retry_seconds=0.5), make_broker(environment.broker_url.get_secret_value())
    relay = Relay(database, broker, environment)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield thread
    finally:
        relay.stop()
        thread.join()
        database.close()
        broker.close()
        broker.client.close()


def test_the_relay_and_the_workers_outlive_a_read_only_database(
    db: Database, environment: Settings, world: World
) -> None:
    """It becomes read-only in the middle of their work, for longer than they repeat a transaction."""
    ids, said = world.enrolments(3), list[str]()

    def heard(event: str) -> None:
        eventually(lambda: event in [entry["event"] for entry in entries][len(said) :], what=event)
        said.extend(entry["event"] for entry in entries[len(said) :])

    with process(WORKER), structlog.testing.capture_logs() as entries, relaying(environment) as relay:
        heard("relay.leads")
        with read_only(world):
            for _ in range(3):
                heard("relay.database_unreachable")
        heard("relay.leads")
        job = world.submit(db, ids)
        eventually(lambda: job_state(world, job.id) == "completed")
        assert relay.is_alive()
    assert_balanced(db)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["stopped", "read-only"])
def test_every_process_finds_the_new_primary_of_a_url_with_two_hosts(
    environment: Settings, servers: LocalServers, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The same relay, worker and pool of connections go on after the standby was promoted.

    Small: the test above, whose relay and worker leave a server that takes no writes.
    """
    with directory() as place, primary_and_standby(servers, place) as pair:
        monkeypatch.setenv("DATABASE_URL", pair.url)
        ran = withdrawals("migrate")
        assert ran.code == 0, ran.err
        _a_standby_alone_is_told_from_a_primary(pair, monkeypatch)
        settings.cache_clear()
        owner, db = Database(settings(), as_owner=True), Database(settings())
        world = World(owner)
        first, second = world.enrolments(3), world.enrolments(3)
        with process(RELAY), process(WORKER):
            job = world.submit(db, first)
            eventually(lambda: job_state(world, job.id) == "completed")
            _fail_over(pair, fault)
            owner.engine.dispose()  # this test's own eyes
            job = world.submit(db, second)
            eventually(lambda: job_state(world, job.id) == "completed")
        levels = {item["what"]: item["level"] for item in _examine()}
        assert [levels[part] for part in ("database", "schema", "role")] == ["ok"] * 3
        assert withdrawals("check").code == 0
        assert_balanced(db)
        db.close()
        owner.close()


def _a_standby_alone_is_told_from_a_primary(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as alone:
        alone.setenv("DATABASE_URL", pair.standby.url)
        eventually(
            lambda: [item["level"] for item in _examine() if "read-only" in item["finding"]] == ["wrong"],
            what="the standby has all of the migration, and the doctor names what it is",
        )
        refused = withdrawals("deactivate", "anna", "--organisation", "Acme")
        assert refused.code == 1


def _examine() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(withdrawals("doctor", "--json").out)["items"]
    return found


def _fail_over(pair: Pair, fault: str) -> None:
    if fault == "stopped":
        pair.primary.stop()
    else:
        pair.make_primary_read_only()
    pair.promote()
