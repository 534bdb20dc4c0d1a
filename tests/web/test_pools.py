"""What is slow takes nothing from the door: its connections and its threads are its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from tests.support.costs import counting
from tests.support.web import event, make_source, signed
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.web.pools import Pools

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def small(environment: Settings) -> Iterator[Pools]:
    one = {"web_connections": 1, "report_connections": 1, "door_connections": 2}
    pools = Pools.open(environment.model_copy(update=one))
    yield pools
    pools.close()


def test_the_door_asks_for_its_plans_once_a_session(small: Pools, world: World) -> None:
    """A single request saves a round trip by it. Other pools read much, and plan as PostgreSQL thinks best."""
    with counting(small.door) as costs:
        world.submit(small.door, world.enrolments(1))
    assert len(costs.statements) == 2, costs.statements
    with small.requests.begin() as connection:
        assert connection.exec_driver_sql("SHOW enable_sort").scalar() == "on"


def take_all(stack: ExitStack, pool: Database) -> None:
    """Hold every connection of a pool, as plans and exports do."""
    for _ in range(3):  # one, and two more
        stack.enter_context(pool.begin())


def test_with_all_other_connections_taken_an_event_and_a_small_job_are_taken_in(
    small: Pools, db: Database, environment: Settings, world: World, bearer: Bearer
) -> None:
    import json

    secret = make_source(db, environment, world.organisation_id, "workday")
    headers = {**bearer("producer"), "Idempotency-Key": "k"}
    job = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    body = json.dumps(event()).encode()
    app = make_app(small, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False) as client, ExitStack() as stack:
        for pool in (small.requests, small.reports, small.watchers):
            take_all(stack, pool)
        assert client.post("/hooks/hr/workday", content=body, headers=signed(secret, body)).status_code == 202
        assert client.post("/v1/jobs", json=job, headers=headers).status_code == 202


def test_the_door_has_threads_of_its_own(db: Database, environment: Settings) -> None:
    services = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment).state.services
    go_on = Event()
    with start_blocking_portal() as portal:
        from starlette.concurrency import run_in_threadpool

        slow = [portal.start_task_soon(run_in_threadpool, go_on.wait, 60) for _ in range(100)]
        assert portal.call(services.at_the_door, lambda: "taken in") == "taken in"
        go_on.set()
        assert all(one.result(60) for one in slow)
