"""Progress as server-sent events, from a real server: until the end, and through what goes wrong."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.scraping import free_port
from tests.world import PATIENCE, World, decide_due, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.jobs.control import cancel
from worker.queue.broker import make_broker
from worker.web.api import progress
from worker.web.app import make_app
from worker.web.server import Server

Bearer = Callable[..., dict[str, str]]


@dataclass(frozen=True, slots=True)
class Live:
    """A server that answers on a port."""

    app: FastAPI
    server: Server
    port: int
    thread: threading.Thread


@pytest.fixture
def live(db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.05)
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    server = Server(app, environment.model_copy(update={"port": 0}))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield Live(app, server, server.servers[0].sockets[0].getsockname()[1], thread)
    app.state.watchers.stop()
    server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


@contextmanager
def watching(port: int, job_id: int, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/v1/jobs/{job_id}/events", headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def next_event(stream: http.client.HTTPResponse) -> tuple[str, str, Any] | None:
    """Name, id and data of the next event; None at the end of the stream."""
    found: dict[str, str] = {}
    while line := stream.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name in ("event", "id", "data"):
            found[name] = value
        elif not line.strip() and "data" in found:
            return found["event"], found["id"], json.loads(found["data"])
    return None


def the_end(stream: http.client.HTTPResponse) -> tuple[str, str, Any]:
    """The last event, past those of the way there; nothing may come after it."""
    last: tuple[str, str, Any] = ("", "", {})
    while event := next_event(stream):
        assert last[0] != "end"
        last = event
    return last


def test_progress_is_sent_until_the_job_ends(
    live: Live, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(3))
    with watching(live.port, job.id, bearer("producer", name="x") | bearer("viewer")) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        name, id_, data = next_event(stream) or ("", "", {})
        assert (name, id_, data["state"], data["in_flight"]) == ("progress", "0", "queued", 3)
        decide_due(db, environment)
        name, id_, data = the_end(stream)
        assert (name, id_, data["state"], data["outcomes"]) == ("end", "end", "completed", {"withdrawn": 3})
    eventually(lambda: len(live.app.state.watchers) == 0)


def test_an_ended_job_is_reported_once_and_a_browser_that_returns_is_sent_away(
    client: TestClient, bearer: Bearer, world: World, db: Database, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(1))
    decide_due(db, environment)
    answer = client.get(f"/v1/jobs/{job.id}/events", headers=bearer("viewer"))
    assert [line for line in answer.text.splitlines() if line.startswith("event")] == ["event: end"]
    again = client.get(f"/v1/jobs/{job.id}/events", headers=bearer("viewer") | {"Last-Event-ID": "end"})
    assert (again.status_code, again.content) == (204, b"")
    other = client.get(f"/v1/jobs/{job.id}/events", headers=bearer("viewer") | {"Last-Event-ID": "no such \t id"})
    assert other.status_code == 200


def test_a_producer_watches_its_own_jobs_alone(client: TestClient, bearer: Bearer, world: World, db: Database) -> None:
    job = world.submit(db, world.enrolments(1))
    missing = client.get("/v1/jobs/999999/events", headers=bearer("viewer"))
    for who in (bearer("producer"), bearer("viewer", organisation_id=world.organisation("Other"))):
        answer = client.get(f"/v1/jobs/{job.id}/events", headers=who)
        assert answer.status_code == 404
        assert answer.json()["detail"].replace(str(job.id), "") == missing.json()["detail"].replace("999999", "")
    assert client.get(f"/v1/jobs/{job.id}/events").status_code == 401
    assert client.get("/v1/jobs/x/events", headers=bearer("viewer")).status_code == 422


def test_many_watchers_ask_the_database_one_question_a_poll(
    live: Live, bearer: Bearer, world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[int]] = []
    ask = progress.Watchers._ask

    def counted(self: progress.Watchers, job_ids: set[int], tickets: set[progress.Ticket]) -> Any:
        asked.append(job_ids)
        return ask(self, job_ids, tickets)

    monkeypatch.setattr(progress.Watchers, "_ask", counted)
    jobs = [world.submit(db, world.enrolments(1)) for _ in range(2)]
    viewer = bearer("viewer")
    streams = [watching(live.port, jobs[number % 2].id, viewer) for number in range(8)]
    opened = [stream.__enter__() for stream in streams]
    for stream in opened:
        assert next_event(stream)
    eventually(lambda: asked and asked[-1] == {job.id for job in jobs}, what="one question about all jobs")
    for job in jobs:
        cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
    for stream in opened:
        name, _, data = the_end(stream)
        assert (name, data["state"]) == ("end", "cancelled")
    for made in streams:
        made.__exit__(None, None, None)


def test_a_client_that_disconnects_is_forgotten_and_the_poller_stops(
    live: Live, bearer: Bearer, world: World, db: Database
) -> None:
    job = world.submit(db, world.enrolments(1))
    with watching(live.port, job.id, bearer("viewer")) as stream:
        assert next_event(stream)
        eventually(lambda: len(live.app.state.watchers) == 1)
    eventually(lambda: len(live.app.state.watchers) == 0)
    eventually(lambda: live.app.state.watchers._poller is None)


def test_a_stream_ends_soon_after_its_token_is_revoked(live: Live, world: World, db: Database) -> None:
    job = world.submit(db, world.enrolments(1))
    made = tokens.create(db, organisation_id=world.organisation_id, name="t", role="viewer", actor="test:approver")
    with watching(live.port, job.id, {"Authorization": f"Bearer {made.secret}"}) as stream:
        assert next_event(stream)
        tokens.revoke(db, organisation_id=world.organisation_id, token_id=made.token.id, actor="test:approver")
        assert next_event(stream) is None


def test_a_silent_stream_sends_comments(
    live: Live, bearer: Bearer, world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PING_SECONDS", 0.05)
    job = world.submit(db, world.enrolments(1))
    with watching(live.port, job.id, bearer("viewer")) as stream:
        assert next_event(stream)
        assert stream.readline().startswith(b": ")


def test_a_watcher_too_many_is_asked_to_retry_later(
    live: Live, bearer: Bearer, world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_WATCHERS", 1)
    job = world.submit(db, world.enrolments(1))
    viewer = bearer("viewer")
    with watching(live.port, job.id, viewer) as first:
        assert next_event(first)
        with watching(live.port, job.id, viewer) as second:
            assert (second.status, second.headers["retry-after"]) == (503, "10")


def test_one_token_cannot_take_all_watchers(
    live: Live, bearer: Bearer, world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_PER_TOKEN", 1)
    job = world.submit(db, world.enrolments(1))
    viewer = bearer("viewer")
    with watching(live.port, job.id, viewer) as first:
        assert next_event(first)
        with watching(live.port, job.id, viewer) as second, watching(live.port, job.id, bearer("viewer")) as other:
            assert second.status == 503
            assert next_event(other)


def test_a_stream_outlives_a_restart_of_postgresql(
    live: Live, bearer: Bearer, world: World, db: Database, environment: Settings, servers: LocalServers
) -> None:
    job = world.submit(db, world.enrolments(2))
    with watching(live.port, job.id, bearer("viewer")) as stream:
        assert next_event(stream)
        processes.restart_postgres(servers, "immediate")
        decide_due(db, environment)
        name, _, data = the_end(stream)
        assert (name, data["outcomes"]) == ("end", {"withdrawn": 2})


@pytest.mark.long
def test_a_watcher_does_not_keep_the_process_from_ending(bearer: Bearer, world: World, db: Database) -> None:
    """Small: `test_a_client_that_disconnects_is_forgotten_and_the_poller_stops`."""
    job = world.submit(db, world.enrolments(1))
    port = free_port()
    environment = {**os.environ, "WITHDRAWALS_PORT": str(port), "WITHDRAWALS_SHUTDOWN_SECONDS": "60"}
    process = subprocess.Popen([sys.executable, "-m", "ops", "web"], env=environment, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers)
        on_record = "SELECT count(*) FROM withdrawals.processes WHERE kind = 'web'"
        eventually(lambda: world.one(on_record) == 1, what="the process is seen")
        with watching(port, job.id, bearer("viewer")) as stream:
            assert next_event(stream)
            process.send_signal(signal.SIGTERM)
            assert next_event(stream) is None
            process.wait(PATIENCE)
        assert world.one(on_record) == 0
    finally:
        process.kill()
        process.wait()
