"""Notifications leave after the commit: once for many, never for what was rolled back, also for a lost answer."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import text

from tests.support import failpoints
from tests.support.failpoints import armed
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import CHANNEL, Database, notify_after_commit
from worker.notifier import Notifier
from worker.one_message import Step


class Listener:
    """A relay's ear: counts what it hears."""

    def __init__(self, session: psycopg.Connection) -> None:
        self._session = session
        session.execute(f"LISTEN {CHANNEL}")
        self.payloads: list[str] = []

    def listen(self) -> int:
        self.payloads += [one.payload for one in self._session.notifies(timeout=0)]
        return len(self.payloads)


@pytest.fixture
def listener(environment: Settings) -> Iterator[Listener]:
    with psycopg.connect(environment.database_url.get_secret_value(), autocommit=True) as session:
        yield Listener(session)


@pytest.fixture(autouse=True)
def _taken_out() -> Iterator[None]:
    yield
    failpoints.uninstall()


def test_a_commit_that_made_something_due_is_heard(db: Database, world: World, listener: Listener) -> None:
    world.submit(db, world.enrolments(1))
    eventually(lambda: listener.listen() == 1)


def test_the_transaction_itself_does_not_notify(db: Database, listener: Listener) -> None:
    """One that does takes a lock that every other one waits for until it has committed."""
    statements: list[str] = []
    sqlalchemy.event.listen(db.engine, "before_cursor_execute", lambda *found: statements.append(found[2]))
    with db.begin() as connection:
        notify_after_commit(connection)
        connection.execute(text("SELECT 1"))
        assert statements == ["SELECT 1"]
    eventually(lambda: listener.listen() == 1)


def test_a_request_alone_notifies_in_the_message_that_accepts_it(
    db: Database, world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is left to the next within the pause."""
    threads: list[str] = []
    monkeypatch.setattr("worker.notifier.PAUSE", 3600.0)
    monkeypatch.setattr(db._notifier, "notify", lambda: threads.append("notified"))
    ids = world.enrolments(2)
    world.submit(db, ids[:1])
    eventually(lambda: listener.listen() == 1)
    assert threads == []
    world.submit(db, ids[1:])
    assert threads == ["notified"]
    assert listener.listen() == 1


def test_a_request_whose_notification_is_refused_is_accepted_all_the_same(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL refuses it when its queue of notifications is full."""
    refused = Step("refused", "SELECT 1 / CAST(current_setting('is_superuser') = '' AS integer) /* NOTIFY */")
    monkeypatch.setattr("worker.database._NOTIFY_ALONE", refused)
    job = world.submit(db, world.enrolments(1))
    assert world.run("SELECT id FROM withdrawals.jobs") == [(job.id,)]


def test_a_decision_that_is_told_to_a_webhook_does_not_notify(
    db: Database, world: World, environment: Settings, listener: Listener
) -> None:
    """The delivery is a row; the relay finds it in its next round."""
    world.run(
        """INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
        VALUES (:o, 'https://help.example/', ARRAY['job.completed', 'dead_letter.opened'], 'x', 'test')""",
        o=world.organisation_id,
    )
    world.submit(db, [world.enrolment(), world.enrolment(pathway_id=world.pathway())])
    eventually(lambda: listener.listen() == 1, what="the job is due")
    decide_due(db, environment)
    assert world.one("SELECT count(*) FROM withdrawals.deliveries") == 2
    world.run(f"NOTIFY {CHANNEL}, 'the last one'")
    eventually(lambda: listener.listen() and listener.payloads[-1], what="what was sent last")
    assert listener.payloads == ["", "the last one"]


def test_what_is_rolled_back_notifies_nobody(db: Database, listener: Listener) -> None:
    def work(failing: bool) -> None:
        with db.begin() as connection:
            notify_after_commit(connection)
            if failing:
                raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        work(failing=True)
    db._notifier.flush()
    assert listener.listen() == 0
    work(failing=False)
    eventually(lambda: listener.listen() == 1)


def test_a_commit_whose_answer_was_lost_is_heard(
    db: Database, world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db._notifier, "take_turn", lambda: False)  # in the message it has been heard by then
    ids = world.enrolments(1)
    db.retry_seconds = 0  # nobody asks again
    with (
        armed("job_sets.accept_at_once:after", failpoints.lose_connection),
        pytest.raises(sqlalchemy.exc.OperationalError),
    ):
        world.submit(db, ids)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1
    eventually(lambda: listener.listen() == 1)


def test_many_commits_share_a_notification() -> None:
    """While one is on its way, any number wait together for the next."""
    sent: list[int] = []
    on_its_way, go_on = threading.Event(), threading.Event()

    def send() -> None:
        sent.append(1)
        on_its_way.set()
        assert go_on.wait(60)

    notifier = Notifier(send)
    notifier.notify()
    assert on_its_way.wait(60)
    for _ in range(100):
        notifier.notify()
    go_on.set()
    notifier.close()
    assert sent == [1, 1]


def test_closing_the_connections_sends_what_is_still_to_be_sent(db: Database, listener: Listener) -> None:
    db._notifier._thread = threading.current_thread()  # so that no thread sends it
    with db.begin() as connection:
        notify_after_commit(connection)
    assert listener.listen() == 0
    db._notifier._thread = None
    db.close()
    eventually(lambda: listener.listen() == 1)


def test_a_broken_connection_of_the_pool_does_not_lose_a_notification() -> None:
    failures = [psycopg.OperationalError("lost")]
    sent = threading.Event()

    def send() -> None:
        if failures:
            raise failures.pop()
        sent.set()

    notifier = Notifier(send)
    notifier.notify()
    assert sent.wait(60)
    notifier.close()


def test_closing_ends_whatever_the_thread_is_about_to_do() -> None:
    """The thread may have seen that it is wanted and not that it is closed: it must not wait once more."""
    in_flush, go_on = threading.Event(), threading.Event()

    class Slow(Notifier):
        def flush(self) -> None:
            if threading.current_thread().name == "notifier":
                in_flush.set()
                assert go_on.wait(60)
            super().flush()

    notifier = Slow(lambda: None)
    notifier.notify()
    assert in_flush.wait(60)
    closing = threading.Thread(target=notifier.close)
    closing.start()
    eventually(lambda: notifier._thread is None)
    eventually(notifier._wanted.is_set)
    go_on.set()
    closing.join(60)
    assert not closing.is_alive()
