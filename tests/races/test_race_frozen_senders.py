"""A process that is frozen while it sends several statements at once, or before it reads their answers.

The proxy stands for the process: what it holds back the server does not see, as if the process had not sent it.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from pydantic import SecretStr

from ops.local.servers import LocalServers
from tests.support.proxy import Proxy
from tests.support.racing import leases_run_out, take
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import claims
from worker.ledger.decide_at_once import DecidedAtOnce
from worker.queue import recovery
from worker.queue.apply import apply_small
from worker.records import Claim

OPEN_TRANSACTIONS = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"""
DONE = {
    "a single request": "SELECT count(*) = 3 FROM withdrawals.jobs",
    "a claim": "SELECT count(*) > 0 FROM withdrawals.chunks WHERE state = 'claimed'",
}
_ENDS = (b"Q", b"S")
"""Messages after which the server answers: a simple query, and the end of a pipeline."""


class Freezer(Proxy):
    """Holds back the last byte of what a client sends next, or what it is answered, until it is thawed."""

    def __init__(self, servers: LocalServers) -> None:
        super().__init__(servers.socket_dir)
        self.sends_all: bool | None = None
        """Whether all of it is sent, and the answer held back. None: nothing is held back."""
        self.frozen, self.thawed = threading.Event(), threading.Event()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        threading.Thread(target=self._answer, args=[client, server], daemon=True).start()
        while data := client.recv(65_536):
            if self.sends_all is None:
                server.sendall(data)
                continue
            for message in _messages(data, client):
                ends = message[:1] in _ENDS
                server.sendall(message[: -1 if ends and not self.sends_all else None])
                if ends:
                    self.frozen.set()
                    self.thawed.wait()
                    self.sends_all, rest = None, b"" if self.sends_all else message[-1:]
                    server.sendall(rest)
                    break

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):  # the other direction has ended, and closed both
            while data := server.recv(65_536):
                if self.sends_all:
                    self.thawed.wait()
                client.sendall(data)


def _messages(data: bytes, client: socket.socket) -> Iterator[bytes]:
    while True:
        while len(data) < 5 or len(data) <= int.from_bytes(data[1:5]):
            data += client.recv(65_536)
        length = 1 + int.from_bytes(data[1:5])
        yield data[:length]
        data = data[length:]


Act = Callable[[Database], object]


def _behind(proxy: Freezer, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Connections of the process that is frozen."""
    url = SecretStr(proxy.url(environment.database_url.get_secret_value()))
    with monkeypatch.context() as patch:
        patch.setattr(Database, "_notify", lambda _: None)  # a notification has a connection of its own
        return Database(environment.model_copy(update={"database_url": url}))


@pytest.mark.parametrize("sends_all", [False, True], ids=["before its last byte", "before it reads the answer"])
@pytest.mark.parametrize("what", ["a single request", "a claim"])
def test_a_process_that_is_frozen_while_it_asks_holds_no_lock(
    db: Database,
    world: World,
    environment: Settings,
    servers: LocalServers,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    sends_all: bool,
) -> None:
    """Others of the same organisation go on at once, and the frozen one later does its own, once."""
    ids = iter(world.enrolments(4))
    acts: dict[str, Act] = {
        "a single request": lambda frozen: world.submit(frozen, [next(ids)]),
        "a claim": lambda frozen: frozen.run(
            lambda session: claims.claim_now(session, budget=1000, lease=timedelta(hours=1)), autocommit=True
        ),
    }
    with Freezer(servers) as proxy, ThreadPoolExecutor(1) as pool:
        frozen = _behind(proxy, environment, monkeypatch)
        acts[what](frozen)  # what it asks has been prepared
        world.submit(db, [next(ids)])
        proxy.sends_all = sends_all
        asking = pool.submit(acts[what], frozen)
        try:
            assert proxy.frozen.wait(PATIENCE)
            if sends_all:  # else it could be that the server has not begun with it
                eventually(lambda: world.one(DONE[what]), what="the server has done what it was sent")
            eventually(
                lambda: world.one(OPEN_TRANSACTIONS) == 0, what="the server has no transaction of the frozen one"
            )
            world.submit(db, [next(ids)])  # needs the organisation's settings row
            decide_due(db, environment)
        finally:
            proxy.thawed.set()
        asking.result(PATIENCE)
        frozen.close()
    states = world.run("SELECT state FROM withdrawals.chunks ORDER BY id")
    claimed = [state for (state,) in states if state == "claimed"]
    assert len(claimed) == (what == "a claim" and sends_all)
    decide_due(db, environment)
    assert_balanced(db)


_IN_HAND = ("withdrawals.chunks", "withdrawals.jobs", "withdrawals.persons", "lms.learners", "lms.enrolments")
"""What a message that decides locks."""


@pytest.mark.parametrize("sends_all", [False, True], ids=["before its last byte", "before it reads the answer"])
@pytest.mark.parametrize("what", ["single requests", "deactivations"])
def test_a_process_that_is_frozen_while_it_decides_holds_no_lock(
    db: Database,
    world: World,
    environment: Settings,
    servers: LocalServers,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    sends_all: bool,
) -> None:
    """What it was to decide is decided once: by another, if the server did not have all of the message."""

    def claimed(*people: str) -> Claim:
        for person in people:
            enrolment = world.enrolment(person)
            if what == "deactivations":
                world.event(db, "deactivated", person)
            else:
                world.submit(db, [enrolment])
        return take(db)

    def decide(claim: Claim) -> DecidedAtOnce:
        return frozen.run(lambda session: apply_small(session, claim), autocommit=True)

    with Freezer(servers) as proxy, ThreadPoolExecutor(1) as pool:
        frozen = _behind(proxy, environment, monkeypatch)
        assert len(decide(claimed("anna", "ben")).finished) == 2  # what it asks has been prepared
        claim = claimed("cleo", "dora")
        proxy.sends_all = sends_all
        deciding = pool.submit(decide, claim)
        try:
            assert proxy.frozen.wait(PATIENCE)
            want = [("done" if sends_all else "claimed",)] * 2
            state = "SELECT state FROM withdrawals.chunks WHERE id = ANY(:ids)"
            eventually(
                lambda: world.run(state, ids=claim.chunk_ids) == want, what="the server has done what it was sent"
            )
            eventually(
                lambda: world.one(OPEN_TRANSACTIONS) == 0, what="the server has no transaction of the frozen one"
            )
            for table in _IN_HAND:
                world.run(f"SELECT FROM {table} FOR UPDATE NOWAIT")
            leases_run_out(world)
            recovery.take_over(db, environment)
            decide_due(db, environment)
        finally:
            proxy.thawed.set()
        found = deciding.result(PATIENCE)
        frozen.close()
    assert len(found.decided) == (2 if sends_all else 0)
    assert world.run("SELECT DISTINCT state FROM withdrawals.jobs") == [("completed",)]
    assert world.one("SELECT count(*) FROM withdrawals.outcomes WHERE outcome = 'withdrawn'") == 4
    assert_balanced(db)
