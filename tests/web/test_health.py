"""Liveness and readiness: each missing part is named."""

from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.world import World


def test_the_process_answers(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_ready_when_database_broker_and_a_relay_are_there(client: TestClient, world: World) -> None:
    without = client.get("/readyz")
    assert without.status_code == 503
    assert [part for part in ("database", "broker", "relay") if without.json()[part]["ok"]] == ["database", "broker"]
    world.run("INSERT INTO withdrawals.processes (id, kind, threads) VALUES (gen_random_uuid(), 'relay', 1)")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_a_relay_without_a_recent_heartbeat_is_named(client: TestClient, world: World) -> None:
    world.run(
        "INSERT INTO withdrawals.processes (id, kind, threads, seen_at) "
        "VALUES (gen_random_uuid(), 'relay', 1, now() - interval '1 minute')"
    )
    found = client.get("/readyz").json()["relay"]
    assert found["ok"] is False
    assert found["seconds_since_seen"] >= 60


def test_a_broker_that_is_gone_is_named_and_the_process_still_answers(
    client: TestClient, servers: LocalServers
) -> None:
    processes.kill_redis(servers)
    try:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert [part for part in ("database", "broker") if answer.json()[part]["ok"]] == ["database"]
        assert client.get("/healthz").status_code == 200
    finally:
        processes.start_redis(servers)
