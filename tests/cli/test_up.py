"""`withdrawals up`: everything runs, and a newcomer gets a way into the console; nobody else does."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from ops.cli import up, welcome
from ops.demo import oulad, tour
from tests.support.scraping import free_port
from tests.support.web import serving
from tests.world import PATIENCE, World, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database

LINK = re.compile(r"/console/link#([\w-]{43})")
SECRET = re.compile(r"wdt_[0-9a-f]{16}_[\w-]{43}")


class Terminal:
    """What was printed on a terminal so far."""

    def __init__(self, fd: int) -> None:
        self.fd, self.shown = fd, ""
        os.set_blocking(fd, False)

    def read(self) -> str:
        with suppress(OSError):  # nothing there, or all ended
            while piece := os.read(self.fd, 65_536):
                self.shown += piece.decode(errors="replace")
        return self.shown


@contextmanager
def _up(*words: str) -> Iterator[tuple[str, Terminal]]:
    """The real program on a terminal; its address."""
    port = str(free_port())
    ours, theirs = pty.openpty()
    environment = {**os.environ, "WITHDRAWALS_PORT": port, "WITHDRAWALS_PROCESSES": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "ops", "up", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        terminal = Terminal(ours)
        try:
            yield f"http://127.0.0.1:{port}", terminal
            running.send_signal(signal.SIGINT)
            eventually(lambda: terminal.read() and running.poll() is not None)
            assert running.returncode == 0, terminal.shown
        finally:
            running.kill()
            os.close(ours)


def _release_as_paul(client: httpx2.Client, code: str) -> None:
    """The second person of the demo finds what waits, and releases it."""
    waits = re.search(r'href="(/console/jobs/\d+)"', client.get("/console/approvals").text)
    assert waits
    assert 'Who can: <span title="token:paul">paul</span>.' in client.get(waits[1]).text
    assert "Sign in as" not in client.get("/console/sign-in").text, "by name only where the database is embedded"
    assert client.post("/console/link", data={"code": code}).status_code == 303
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/console/approvals").text)
    assert csrf
    assert client.post(f"{waits[1]}/release", data={"csrf": csrf[1], "note": "seen"}).status_code == 303
    assert "Nothing waits for a second person" in client.get("/console/approvals").text


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[oulad.Registration]:
    """A fiftieth of the dataset, all of whom no day is known, and the Series of which a job waits."""
    rows = [
        row
        for row in oulad.registrations()
        if row.number % 50 == 1 or (row.withdrawn and row.day is None) or row.series == tour.WAITING
    ]
    monkeypatch.setattr(oulad, "registrations", lambda: rows)
    return rows


def test_a_web_process_is_there_once_it_answers(db: Database, environment: Settings) -> None:
    with serving(db, environment) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        assert up._serves(host, int(port))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a process that listens, and does not answer
        free = silent.getsockname()[1]
        assert not up._serves("127.0.0.1", free)
    assert not up._serves("127.0.0.1", free)


@pytest.mark.long
def test_up_with_the_demo_shows_a_token_and_the_console_has_what_there_is_to_do(environment: Settings) -> None:
    """Small: the tests of what the demo loads and of the invitation below; tests/cli/test_wheel.py runs `up`."""
    with _up("--demo") as (address, terminal):
        secret = eventually(lambda: SECRET.search(terminal.read()))[0]
        eventually(lambda: "as paul (approver)" in terminal.read() and len(LINK.findall(terminal.shown)) == 2)
        assert f"{address}/console" in terminal.shown
        code, other = LINK.findall(terminal.shown)
        assert "as olivia (owner)" in terminal.shown
        assert "as paul (approver)" in terminal.shown
        with httpx2.Client(base_url=address, timeout=PATIENCE) as client:

            def ready() -> bool:
                with suppress(httpx2.TransportError):
                    return client.get("/readyz").status_code == 200
                return False

            eventually(ready)
            for _ in range(2):  # whoever only looks the link up does not use it
                assert client.get("/console/link").status_code == 200
            used = [client.post("/console/link", data={"code": code}) for _ in range(2)]
            assert [answer.status_code for answer in used] == [303, 401], "a link signs in once"
            assert client.get("/console").status_code == 200
            _release_as_paul(client, other)
            bearer = {"Authorization": f"Bearer {secret}"}

            def letters() -> int:
                open_ = client.get("/v1/reports/summary", headers=bearer).json()["open_letters"]
                return sum(item["count"] for item in open_)

            eventually(lambda: letters() == 292)
            assert "Learning Pathway GGG" in client.get("/console/reports?series=GGG-2014J").text
        assert len(SECRET.findall(terminal.read())) == 1, "no log has it"
        assert terminal.shown.count(code) == 1, "no log has it"


def test_the_demo_is_loaded_once_and_a_killed_start_is_finished_by_the_next(
    few: list[oulad.Registration], environment: Settings, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(tour, "_submit_jobs", killed)
        with pytest.raises(KeyboardInterrupt):
            tour.load(environment)
    assert world.one("SELECT count(*) FROM lms.enrolments") == len(few)
    assert tour.load(environment)
    asked = {
        row.enrolment_id for row in world.run("SELECT unnest(enrolment_ids) AS enrolment_id FROM withdrawals.chunks")
    }
    last = [row for row in few if row.series.endswith(tour.UNTOUCHED) and row.series != tour.WAITING]
    base = world.one("SELECT min(id) - 1 FROM lms.enrolments")
    assert asked & {base + row.number for row in last} == {
        base + row.number for row in last if row.owned and row.withdrawn
    }
    jobs = world.one("SELECT count(*) FROM withdrawals.jobs")
    assert not tour.load(environment)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == jobs
    assert world.one("SELECT count(*) FROM lms.enrolments") == len(few)


def test_the_sign_in_page_of_an_embedded_demo_offers_its_people(
    few: list[oulad.Registration], environment: Settings, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tour.load(environment)
    (job,) = world.run("SELECT requested_by, held_because, note FROM withdrawals.jobs WHERE state = 'held'")
    assert job.requested_by == "token:olivia"
    for embedded, host in ((False, "127.0.0.1"), (True, "0.0.0.0"), (True, "127.0.0.1")):  # noqa: S104 - not offered
        monkeypatch.setenv("WITHDRAWALS_DEMO_PEOPLE", "")
        current = environment.model_copy(update={"host": host})
        said = _invite(current, demo=True, embedded=embedded)
        made = [str(one.id) for one in tokens.list_tokens(db, organisation_id=_demo(world)) if one.revoked_at is None]
        offered = os.environ["WITHDRAWALS_DEMO_PEOPLE"].split(",")
        assert (sorted(offered) == sorted(made)) is (embedded and host == "127.0.0.1")
        assert sum("/console/link#" in line for line in said) == (2 if embedded and host == "127.0.0.1" else 0)


def test_without_the_demo_nobody_is_offered_by_name(
    environment: Settings, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` on this machine, with its own database and one organisation: its owner's token is for its terminal alone."""
    monkeypatch.setenv("WITHDRAWALS_DEMO_PEOPLE", "")
    current = environment.model_copy(update={"host": "127.0.0.1"})
    said = _invite(current, demo=False, embedded=True)
    assert sum("/console/link#" in line for line in said) == 1, "a token was made"
    assert os.environ["WITHDRAWALS_DEMO_PEOPLE"] == ""


def _invite(current: Settings, *, demo: bool, embedded: bool) -> list[str]:
    organisations, made = up._make_tokens(current, demo=demo, embedded=embedded)
    return up._invitation(current, "http://127.0.0.1:8000", organisations, made)


def _demo(world: World) -> int:
    return int(world.one("SELECT id FROM lms.organisations WHERE name = :n", n=tour.ORGANISATION))


def test_each_start_makes_a_token_and_ends_the_last_one(db: Database, world: World) -> None:
    (first,), (second,) = (welcome.fresh_tokens(db, world.organisation_id) for _ in range(2))
    assert tokens.authenticate(db, first.secret) is None
    known = tokens.authenticate(db, second.secret)
    assert (known.name, known.role) == ("console", "owner") if known else False
    theirs = world.organisation("Other")
    tokens.create(db, organisation_id=theirs, name="console", role="viewer", actor="cli:mia")
    assert welcome.fresh_tokens(db, theirs) == [], "what somebody made by that name stays theirs"


def test_without_a_token_it_is_said_how_to_make_one() -> None:
    at = "http://127.0.0.1:8000"
    assert welcome.invitation(at, ["Acme & Co"])[-1].endswith("--organisation 'Acme & Co'")
    assert welcome.invitation(at, ["a", "b"])[-1].endswith("--organisation NAME")
    assert "no organisation yet" in welcome.invitation(at, [])[-1]
