"""Liveness and readiness: each missing part is named."""

import json

from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.web import Hr, apply_inbox_of, event
from tests.world import World


def test_the_process_answers(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_ready_when_database_broker_and_a_relay_are_there(client: TestClient, world: World) -> None:
    without = client.get("/readyz")
    assert without.status_code == 503
    assert [part for part in ("database", "broker", "relay") if without.json()[part]["ok"]] == ["database", "broker"]
    world.relay_leads()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_a_relay_without_a_recent_heartbeat_is_named(client: TestClient, world: World) -> None:
    world.relay_leads(seen="1 minute")
    found = client.get("/readyz").json()["relay"]
    assert found["ok"] is False
    assert found["seconds_since_seen"] >= 60


def failing(step: str, failures: int) -> str:
    """What a relay records of a step that fails."""
    since = "2026-03-01T08:00:00+00:00"
    found = {"failures": failures, "since": since, "error_class": "UndefinedTable", "fingerprint": "0123456789ab"}
    return json.dumps({step: found})


def test_a_relay_that_stands_by_does_not_make_it_ready(client: TestClient, world: World) -> None:
    world.relay_leads(seen="1 minute")
    world.run("INSERT INTO withdrawals.processes (id, kind, threads) VALUES (gen_random_uuid(), 'relay', 1)")
    assert client.get("/readyz").status_code == 503


def test_it_is_not_ready_while_a_step_fails_that_work_depends_on(client: TestClient, world: World) -> None:
    world.relay_leads(failing=failing("admit", 2))
    assert client.get("/readyz").json()["status"] == "ready", "twice may be a passing fault"
    world.relay_leads(failing=failing("admit", 3))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
    assert answer.json()["relay"]["failing"] == [
        {
            "step": "admit",
            "failures": 3,
            "since": "2026-03-01T08:00:00+00:00",
            "error_class": "UndefinedTable",
            "fingerprint": "0123456789ab",
            "work_stops": True,
        }
    ]


def test_a_step_that_fails_while_work_flows_is_named_and_it_stays_ready(client: TestClient, world: World) -> None:
    world.relay_leads(failing=failing("sessions", 30))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert [step["step"] for step in answer.json()["relay"]["failing"]] == ["sessions"]
    metrics = client.get("/metrics").text
    assert 'withdrawals_relay_step_failures{step="sessions"} 30.0' in metrics
    assert 'withdrawals_relay_step_failures{step="admit"} 0.0' in metrics


def test_the_gauges_tell_how_many_events_wait_and_for_how_long(client: TestClient, hr: Hr, world: World) -> None:
    def gauges() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {
            name: float(value)
            for name, value in (line.split() for line in lines)
            if name in ("withdrawals_inbox_events", "withdrawals_inbox_oldest_seconds")
        }

    for person in ("anna", "ben"):
        assert hr.send(event(person)).status_code == 202
    world.run("UPDATE withdrawals.receipts SET received_at = now() - interval '1 hour' WHERE external_id = 'ben'")
    waiting = gauges()
    assert waiting["withdrawals_inbox_events"] == 2
    assert waiting["withdrawals_inbox_oldest_seconds"] >= 3600
    apply_inbox_of(client)
    assert gauges() == {"withdrawals_inbox_events": 0, "withdrawals_inbox_oldest_seconds": 0}


def test_without_a_broker_it_stays_ready_since_requests_are_accepted(
    client: TestClient, hr: Hr, world: World, servers: LocalServers
) -> None:
    world.relay_leads(failing=failing("publish", 5))
    processes.kill_redis(servers)
    try:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert [part for part in ("database", "broker", "relay") if answer.json()[part]["ok"]] == ["database", "relay"]
        assert answer.json()["relay"]["failing"][0]["work_stops"], "it is said that nothing is worked off"
        assert hr.send(event("anna")).status_code == 202
    finally:
        processes.start_redis(servers)
