"""What a process counts: by route and code, once for each commit, and also while the database is away."""

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.scraping import Samples, parse, value
from tests.support.web import Hr, MakeHr, event
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger.claims import claim
from worker.queue.drain import Drain
from worker.records import Claim
from worker.telemetry import metrics


class Since:
    """What was counted since a point, in this process."""

    def __init__(self) -> None:
        self._before = self._read()

    def _read(self) -> Samples:
        return parse(metrics.exposition().decode())

    def __call__(self, name: str, **labels: str) -> float:
        return value(self._read(), name, **labels) - value(self._before, name, **labels)


def test_a_request_is_counted_and_timed_by_its_route_and_not_by_its_address(client: TestClient) -> None:
    since = Since()
    for path in ("/v1/jobs/1", "/v1/jobs/2", "/no/such/page", "/console/static/no-such-file", "/console/jobs/7"):
        client.get(path, follow_redirects=False)
    client.request("BREW", "/healthz")
    counted = "withdrawals_http_requests_total"
    assert since(counted, method="GET", route="/v1/jobs/{job_id}", status="401") == 2
    assert since("withdrawals_http_request_seconds_count", route="/v1/jobs/{job_id}") == 2
    assert since(counted, method="GET", route="none", status="404") >= 1
    assert since(counted, method="GET", route="/console/jobs/{job_id}", status="303") == 1
    assert since(counted, method="other", route="/healthz", status="405") == 1
    text = metrics.exposition().decode()
    assert "no-such-file" not in text
    assert "BREW" not in text


def test_an_unexpected_error_is_counted_as_500(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("worker.web.health.readiness", broken)
    since = Since()
    answer = client.get("/readyz")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"]
    assert since("withdrawals_http_requests_total", method="GET", route="/readyz", status="500") == 1


def test_events_are_counted_by_what_became_of_them(make_hr: MakeHr, world: World) -> None:
    world.learner("anna")
    hr, since = make_hr(), Since()
    assert hr.send(event(), key="1").status_code == 202
    assert hr.send(event(), key="1").status_code == 200
    assert hr.send({"type": "user.renamed", "timestamp": "2026-03-01T08:00:00Z"}, key="2").status_code == 202
    assert hr.send({"type": "user.deactivated"}, key="3").status_code == 422
    assert hr.send(event(), headers={"webhook-signature": "v1,AAAA"}).status_code == 401
    for status in ("accepted", "repeated", "ignored", "invalid"):
        assert since("withdrawals_events_total", kind="standard", status=status) == 1, status
    assert since("withdrawals_sign_ins_refused_total", door="hook") == 1


def test_outcomes_are_counted_by_enrolment_and_time_to_withdrawn_by_lane(
    hr: Hr, world: World, db: Database, environment: Settings
) -> None:
    world.enrolment("anna")
    owned, plain = world.enrolment("ben", pathway_id=world.pathway()), world.enrolment("carl")
    since = Since()
    hr.applied(event())
    world.submit(db, [owned, plain])
    decide_due(db, environment)
    assert since("withdrawals_outcomes_total", outcome="withdrawn") == 2
    assert since("withdrawals_outcomes_total", outcome="pathway_owned") == 1
    assert since("withdrawals_withdrawn_seconds_count", lane="hr") == 1
    assert since("withdrawals_withdrawn_seconds_count", lane="bulk") == 1
    assert since("withdrawals_inbox_seconds_count", status="accepted") == 1


def test_the_time_to_withdrawn_runs_from_the_event_or_from_when_the_job_fell_due(
    hr: Hr, world: World, db: Database, environment: Settings
) -> None:
    world.enrolment("anna")
    hr.applied(event())
    world.run("UPDATE withdrawals.jobs SET received_at = received_at - interval '100 s'")
    world.submit(db, world.enrolments(1))
    world.run(
        """UPDATE withdrawals.jobs SET created_at = now() - interval '2 days', effective_at = now() - interval '1 day',
        admitted_at = now() - interval '40 s' WHERE source = 'bulk'"""
    )
    since = Since()
    decide_due(db, environment)
    assert 100 <= since("withdrawals_withdrawn_seconds_sum", lane="hr") < 1000
    assert 40 <= since("withdrawals_withdrawn_seconds_sum", lane="bulk") < 1000


def test_an_attempt_that_is_rolled_back_counts_no_outcome(
    world: World, db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(db, world.enrolments(3))
    since = Since()

    def broken(*_: object) -> None:
        raise RuntimeError("after all statements")

    with monkeypatch.context() as patch:
        patch.setattr("worker.queue.drain.apply_at_once", broken)
        Drain(db, environment)._handle(_claimed(db))
    assert since("withdrawals_attempts_total", result="failed") == 1
    assert since("withdrawals_outcomes_total", outcome="withdrawn") == 0


def _claimed(db: Database) -> Claim:
    with db.begin() as connection:
        found = claim(connection, budget=10, lease=timedelta(seconds=30))
    assert found is not None
    return found


def test_what_waits_is_told_by_lane_and_lease(client: TestClient, world: World, db: Database) -> None:
    world.submit(db, world.enrolments(2), chunk_size=1)
    found = parse(client.get("/metrics").text)
    assert value(found, "withdrawals_lane_due_chunks", lane="bulk") == 2
    assert value(found, "withdrawals_lane_due_chunks", lane="hr") == 0
    assert value(found, "withdrawals_database_up") == 1
    world.run(
        """UPDATE withdrawals.chunks SET state = 'claimed', token = gen_random_uuid(), claimed_at = now(),
        lease_until = now() + (row_number - 1.5) * interval '1 hour' FROM (
            SELECT id AS chunk, row_number() OVER (ORDER BY id) FROM withdrawals.chunks) numbered WHERE id = chunk"""
    )
    found = parse(client.get("/metrics").text)
    assert value(found, "withdrawals_claimed_chunks", lease="held") == 1
    assert value(found, "withdrawals_claimed_chunks", lease="expired") == 1


def test_metrics_are_answered_while_the_database_is_away(impatient: TestClient, servers: LocalServers) -> None:
    """That is when they matter most."""
    impatient.get("/healthz")
    processes.kill_postgres(servers)
    try:
        answer = impatient.get("/metrics")
        assert answer.status_code == 200
        found = parse(answer.text)
        assert value(found, "withdrawals_database_up") == 0
        assert value(found, "withdrawals_http_requests_total", method="GET", route="/healthz", status="200") >= 1
    finally:
        processes.start_postgres(servers)
    eventually(lambda: value(parse(impatient.get("/metrics").text), "withdrawals_database_up") == 1)


def test_the_use_of_a_pool_is_told_until_it_is_closed(environment: Settings) -> None:
    database = Database(environment, pool_size=3)
    database.show_use("tested")
    with database.begin():
        found = parse(metrics.exposition().decode())
        assert value(found, "withdrawals_pool_connections", pool="tested", state="in_use") == 1
        assert value(found, "withdrawals_pool_connections", pool="tested", state="most") == 5
    database.close()
    assert database not in metrics._samples
