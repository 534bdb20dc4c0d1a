"""Tokens, sessions and sources in memory: one question a second, and an end within that second."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy.exc
from sqlalchemy import Connection, event

from ops.local.servers import LocalServers
from tests.support import processes
from tests.world import World
from worker.access import last_used, memory, sessions, tokens
from worker.access.memory import NEEDS_DATABASE, Memory
from worker.config import Settings
from worker.database import Database
from worker.people import hr_sources, source_requests

LIMITS = sessions.Limits(timedelta(hours=1), timedelta(hours=1))


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(memory, "clock", made)
    monkeypatch.setattr(last_used, "clock", made)
    return made


@pytest.fixture
def elsewhere(environment: Settings) -> Iterator[Database]:
    """The connections of another process, which forgets nothing when this one changes something."""
    database = Database(environment)
    yield database
    database.close()


@pytest.fixture
def statements(elsewhere: Database) -> list[str]:
    """What the other process asks the database."""
    found: list[str] = []
    event.listen(elsewhere.engine, "before_cursor_execute", lambda *given: found.append(given[2]))
    return found


@pytest.fixture
def token(db: Database, world: World) -> tokens.NewToken:
    return tokens.create(db, organisation_id=world.organisation_id, name="HR", role="viewer", actor="test:owner")


@pytest.fixture
def source(db: Database, environment: Settings, world: World) -> hr_sources.NewSecret:
    organisation_id = world.organisation_id
    return hr_sources.create(
        db, environment, organisation_id=organisation_id, name="workday", kind="okta", actor="test:owner"
    )


def without_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let changes of this process be those of another one."""
    for module in (tokens, sessions, hr_sources):
        monkeypatch.setattr(module, "forget_all", lambda: None)


def test_a_token_is_read_once_a_second(
    elsewhere: Database, token: tokens.NewToken, statements: list[str], clock: Clock
) -> None:
    for _ in range(5):
        assert tokens.authenticate(elsewhere, token.secret) is not None
    assert len([one for one in statements if "selector" in one]) == 1
    clock.now += 1
    assert tokens.authenticate(elsewhere, token.secret) is not None
    assert len([one for one in statements if "selector = " in one]) == 2


def test_a_token_is_known_although_every_connection_was_just_ended(
    elsewhere: Database, world: World, token: tokens.NewToken, clock: Clock
) -> None:
    """As when the login of the database is rotated: nobody is refused for it."""
    with elsewhere.begin() as one, elsewhere.begin() as other:
        pids = [connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() for connection in (one, other)]
    world.run("SELECT pg_terminate_backend(pid, 10000) FROM unnest(CAST(:pids AS integer[])) pid", pids=pids)
    assert tokens.authenticate(elsewhere, token.secret) is not None


def test_a_revoked_token_ends_within_a_second_in_every_process(
    db: Database,
    elsewhere: Database,
    world: World,
    token: tokens.NewToken,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_forgetting(monkeypatch)
    assert tokens.authenticate(elsewhere, token.secret) is not None
    tokens.revoke(db, organisation_id=world.organisation_id, token_id=token.token.id, actor="test:owner")
    clock.now += memory.FRESH_SECONDS
    assert memory.FRESH_SECONDS <= 1
    assert tokens.recall(elsewhere, token.secret) is NEEDS_DATABASE
    assert tokens.authenticate(elsewhere, token.secret) is None


def test_a_revoked_token_ends_at_once_where_it_is_revoked(db: Database, world: World, token: tokens.NewToken) -> None:
    cookie = sessions.sign_in(db, token.secret, limits=LIMITS)
    assert cookie
    assert sessions.find(db, cookie) is not None
    tokens.revoke(db, organisation_id=world.organisation_id, token_id=token.token.id, actor="test:owner")
    assert tokens.authenticate(db, token.secret) is None
    assert sessions.find(db, cookie) is None


def test_a_question_that_was_under_way_when_the_token_was_revoked_is_asked_again(db: Database) -> None:
    """Its answer is older than the revocation."""
    known: Memory[str, str] = Memory()
    asked, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> str:
        asked.set()
        assert go_on.wait(60)
        return "before"

    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(known.find, db, "key", slow)
        assert asked.wait(60)
        known.forget()
        assert known.find(db, "key", lambda _: "after") == "after"
        go_on.set()
        assert early.result(60) == "before"
    assert known.recall(db, "key") == "after"


def test_a_stampede_asks_once(db: Database) -> None:
    known: Memory[str, str] = Memory()
    asked, go_on = threading.Semaphore(0), threading.Event()
    questions: list[int] = []

    def read(connection: Connection) -> str:
        questions.append(1)
        asked.release()
        assert go_on.wait(60)
        return "answer"

    with ThreadPoolExecutor(50) as pool:
        found = [pool.submit(known.find, db, "key", read) for _ in range(50)]
        assert asked.acquire(timeout=60)
        go_on.set()
        assert {one.result(60) for one in found} == {"answer"}
    assert len(questions) == 1


def test_what_does_not_exist_is_not_kept_and_what_is_kept_has_a_bound(db: Database) -> None:
    known: Memory[int, str] = Memory(most=3)
    assert known.find(db, 1, lambda _: None) is None
    assert known.find(db, 1, lambda _: "made meanwhile") == "made meanwhile"
    for key in range(2, 6):
        known.find(db, key, lambda _: "x")
    assert [key for key in range(1, 6) if known.recall(db, key)] == [3, 4, 5]


def test_with_the_database_out_of_reach_nobody_is_let_in_by_what_is_old(
    environment: Settings, servers: LocalServers, token: tokens.NewToken, clock: Clock
) -> None:
    elsewhere = Database(environment, retry_seconds=0.1)
    assert tokens.authenticate(elsewhere, token.secret) is not None
    servers.postgres.stop("fast")
    try:
        assert tokens.authenticate(elsewhere, token.secret) is not None
        clock.now += 1
        with pytest.raises(sqlalchemy.exc.OperationalError):
            tokens.authenticate(elsewhere, token.secret)
    finally:
        processes.start_postgres(servers)
    elsewhere.close()


def test_the_use_of_a_token_is_written_once_a_minute_by_no_request(
    elsewhere: Database, world: World, token: tokens.NewToken, clock: Clock
) -> None:
    writers: list[str] = []
    event.listen(
        elsewhere.engine,
        "before_cursor_execute",
        lambda *given: writers.append(threading.current_thread().name) if "UPDATE" in given[2] else None,
    )
    for seconds in (0, 30, 59, 60, 61):
        clock.now = seconds
        tokens.authenticate(elsewhere, token.secret)
    elsewhere.close()
    assert set(writers) == {"last-used"}
    assert 1 <= len(writers) <= 2
    assert world.one("SELECT last_used_at IS NOT NULL FROM withdrawals.tokens")


Change = Callable[[Database, Settings, int, int], object]
CHANGES: dict[str, Change] = {
    "disabled": lambda db, _, organisation, source: hr_sources.disable(
        db, organisation_id=organisation, source_id=source, actor="test:owner"
    ),
    "rotated": lambda db, current, organisation, source: hr_sources.rotate(
        db, current, organisation_id=organisation, source_id=source, actor="test:owner", keep_hours=0
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("here", [True, False])
def test_a_source_that_is_disabled_or_rotated_ends_within_a_second_and_here_at_once(
    db: Database,
    elsewhere: Database,
    environment: Settings,
    world: World,
    source: hr_sources.NewSecret,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    here: bool,
) -> None:
    def find() -> object:
        return source_requests.authenticate(
            elsewhere, environment, kind="okta", called="workday", genuine=lambda secret: secret == source.secret
        )

    assert find() is not None
    if not here:
        without_forgetting(monkeypatch)
    CHANGES[change](db, environment, world.organisation_id, source.source.id)
    if not here:
        assert find() is not None, "from memory"
        clock.now += 1
    assert find() is None


def test_a_new_secret_is_taken_at_once_in_every_process(
    db: Database,
    elsewhere: Database,
    environment: Settings,
    world: World,
    source: hr_sources.NewSecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A genuine event is never refused, also when its secret is newer than what is remembered."""
    without_forgetting(monkeypatch)
    secrets = [source.secret]
    for _ in range(2):
        made = hr_sources.rotate(
            db, environment, organisation_id=world.organisation_id, source_id=source.source.id, actor="test:owner"
        )
        secrets.append(made.secret)
        found = source_requests.authenticate(
            elsewhere, environment, kind="okta", called="workday", genuine=made.secret.__eq__
        )
        assert found is not None
    assert all(one != other for one, other in pairwise(secrets))


def test_memory_answers_without_the_database_or_says_that_it_cannot(
    elsewhere: Database, environment: Settings, source: hr_sources.NewSecret, statements: list[str]
) -> None:
    def recall(called: str, secret: str = source.secret) -> object:
        return source_requests.recall(elsewhere, kind="okta", called=called, genuine=secret.__eq__)

    assert recall("workday") is NEEDS_DATABASE
    assert recall("Not A Name") is None
    assert tokens.recall(elsewhere, "wdt_wrong") is None
    assert statements == []
    source_requests.authenticate(elsewhere, environment, kind="okta", called="workday", genuine=source.secret.__eq__)
    before = list(statements)
    assert recall("workday") == source.source
    assert recall("workday", "wrong") is NEEDS_DATABASE, "the secret may be newer"
    assert statements == before
