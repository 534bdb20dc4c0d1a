"""Settings that name a mail server on this machine, and helpers."""

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.notifications import NotificationRequest
from tests.support.mail import MailServer
from tests.world import PATIENCE, World
from worker.config import Settings, settings
from worker.database import Database
from worker.ledger.notification_targets import TargetRecord
from worker.notifications import targets, transport
from worker.notifications.messages import Message as Text
from worker.notifications.scan import NoticeScan
from worker.notifications.sender import Sender

PUBLIC = "https://withdrawals.example"


@pytest.fixture
def server() -> Iterator[MailServer]:
    made = MailServer()
    yield made
    made.stop()


@pytest.fixture
def mailing(environment: Settings, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of this process and of children: mail goes to `server`, and nothing but the server is waited for."""
    monkeypatch.setattr(transport, "SECONDS", PATIENCE)
    monkeypatch.setenv("WITHDRAWALS_MAIL_URL", server.url)
    monkeypatch.setenv("WITHDRAWALS_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("WITHDRAWALS_NOTIFICATION_GATHER_SECONDS", "0")
    monkeypatch.setenv("WITHDRAWALS_BRAKE_FLOOR", "0")
    monkeypatch.setenv("WITHDRAWALS_BRAKE_SHARE", "0")
    settings.cache_clear()
    yield settings()
    settings.cache_clear()


class Post:
    """In the place of the process that sends: keeps what it is given, and answers what the test wants."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.sent: list[tuple[str, Text, str]] = []

    def __call__(self, url: str, message: Text, *, message_id: str, **_: Any) -> str | None:
        self.sent.append((url, message, message_id))
        return self.error

    @property
    def titles(self) -> list[str]:
        return [message.title for _, message, _ in self.sent]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    """Nothing is really sent."""
    made = Post()
    monkeypatch.setattr(transport, "send", made)
    return made


def add(db: Database, world: World, mailing: Settings, **wanted: object) -> TargetRecord:
    """Tell `support@help.example`, or whom a test wants."""
    given = {} if {"url", "member_id"} & wanted.keys() else {"to": "support@help.example"}
    request = NotificationRequest.model_validate({**given, **wanted})
    return targets.add(db, mailing, organisation_id=world.organisation_id, wanted=request, actor="test:owner")


def tell(db: Database, mailing: Settings) -> int:
    """One look of the relay, and one run of a worker; the number of attempts."""
    NoticeScan(db, mailing).step()
    return Sender(db, mailing).run()


def letters(world: World, count: int, code: str = "not_found", *, age: str = "0 s") -> None:
    """Open dead letters. `age`: for how long they have been open."""
    world.run(
        """INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, message, fingerprint, opened_at)
        SELECT :o, :code, coalesce((SELECT max(id) FROM withdrawals.dead_letters), 0) + n, 'x', 'x',
            clock_timestamp() - CAST(:age AS interval) FROM generate_series(1, :count) n""",
        o=world.organisation_id,
        code=code,
        count=count,
        age=age,
    )


def pause_is_over(world: World) -> None:
    """Let the time between two messages, and the rest after a failure, be over."""
    world.run("UPDATE withdrawals.notification_targets SET next_at = '-infinity'")
    world.run("UPDATE withdrawals.notification_messages SET run_after = '-infinity' WHERE state = 'due'")
