"""What a session has through a pooler: the service's role, its timeouts, and nothing that another client left."""

import re

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.local.servers import LocalServers
from tests.pooler.conftest import make_login
from tests.support.commandline import withdrawals
from tests.support.pgbouncer import LOGIN, PgBouncer
from tests.support.racing import Threads, await_waiters, hold_enrolments, job_state, outcome
from tests.world import PATIENCE, World, eventually
from worker.config import Settings, settings
from worker.database import Database, driver
from worker.errors import SessionError
from worker.queue.drain import Drain
from worker.queue.leadership import open_session
from worker.session_settings import PREPARE_AFTER


def test_the_login_brings_role_and_timeouts_through_the_pooler(db: Database, environment: Settings) -> None:
    found = db.verify()
    assert (found.pooled, found.login, found.role) == (True, LOGIN, environment.database_role)
    assert (found.statement_timeout, found.lock_timeout) == (15_000, 3_000)
    assert (found.idle_in_transaction_session_timeout, found.timezone) == (15_000, "UTC")
    assert db.run(lambda connection: connection.scalar(text("SHOW jit"))) == "off"


def test_a_direct_connection_is_not_taken_for_a_pooled_one(direct: Settings) -> None:
    database = Database(direct)
    with database.engine.connect() as first, database.engine.connect() as second:
        assert driver(first).prepare_threshold == driver(second).prepare_threshold == PREPARE_AFTER
    assert not database.verify().pooled
    database.close()


def test_a_statement_over_the_limit_is_cancelled(db: Database) -> None:
    with pytest.raises(DBAPIError) as refused, db.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = '20ms'"))
        connection.execute(text("SELECT pg_sleep(30)"))
    assert isinstance(refused.value.orig, psycopg.errors.QueryCanceled)
    assert db.verify().statement_timeout == 15_000, "SET LOCAL has ended with its transaction"


def test_a_write_to_the_platform_beyond_the_grants_is_refused(db: Database, world: World) -> None:
    world.enrolment("anna")
    with pytest.raises(DBAPIError, match="permission denied"), db.begin() as connection:
        connection.execute(text("UPDATE lms.enrolments SET progress = 0"))


def test_statements_run_many_times_are_not_prepared_on_a_session_that_is_lost(db: Database, world: World) -> None:
    """Prepared statements belong to a session, and this PgBouncer does not know them."""
    asked = text("SELECT count(*) FROM lms.enrolments WHERE id = :id")
    enrolment_id = world.enrolment("anna")
    with db.engine.connect() as one, db.engine.connect() as other:
        for _ in range(PREPARE_AFTER + 2):
            one.scalar(asked, {"id": enrolment_id})
            one.commit()  # after a rollback psycopg prepares anew
        other.scalar(asked, {"id": enrolment_id})  # in the session that `one` had, so `one` gets another
        assert one.scalar(asked, {"id": enrolment_id}) == 1


def test_a_request_to_cancel_reaches_the_session_that_runs_the_statement(
    db: Database, world: World, threads: Threads
) -> None:
    with db.engine.connect() as connection:
        running = threads.go(connection.scalar, text("SELECT pg_sleep(60)"))
        eventually(lambda: world.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        driver(connection).cancel_safe(timeout=PATIENCE)
        assert "user request" in str(outcome(running)), "and not a timeout"


def test_a_worker_that_stops_interrupts_its_statement_through_the_pooler(
    slow_db: Database, owner: Database, world: World, patient: Settings, threads: Threads
) -> None:
    """The request to cancel reaches the session that runs the statement, and the claim is given back."""
    ids = world.enrolments(1)
    job = world.submit(slow_db, ids)
    drain = Drain(slow_db, patient)
    with hold_enrolments(owner, *ids):
        working = threads.go(drain.run)
        await_waiters(world)
        drain.stop()
        drain.interrupt()
        working.result(PATIENCE)
    assert job_state(world, job.id) == "queued"
    assert world.one("SELECT claims FROM withdrawals.chunks") == 0, "refunded"


@pytest.mark.parametrize(
    ("command", "web_processes"), [("web", 1), ("web", 2), ("worker", 1), ("relay", 1), ("check", 1)]
)
def test_a_login_without_the_settings_is_refused_with_the_sql(
    environment: Settings,
    owner: Database,
    pooler: PgBouncer,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    web_processes: int,
) -> None:
    make_login(owner, "plain_login")
    through = pooler.url(environment.database_direct_url.get_secret_value(), "plain_login")
    monkeypatch.setenv("DATABASE_URL", through)
    monkeypatch.setenv("WITHDRAWALS_WEB_PROCESSES", str(web_processes))
    settings.cache_clear()
    ran = withdrawals(command)
    assert ran.code == 2
    assert "role is plain_login, needed withdrawals_service" in ran.err
    assert "statement_timeout is off" in ran.err
    assert 'ALTER ROLE "plain_login" IN DATABASE' in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("login", ["plain_login", "withdrawals"])
def test_the_sql_that_is_printed_makes_it_work(
    environment: Settings, owner: Database, pooler: PgBouncer, login: str
) -> None:
    """Also for a superuser, who is left as they are: the service gets a login of its own."""
    if login != "withdrawals":
        make_login(owner, login)
    url = environment.database_direct_url.get_secret_value()
    before = Database(environment.model_copy(update={"database_url": SecretStr(pooler.url(url, login))}))
    with pytest.raises(SessionError) as refused:
        before.verify()
    lines = [line.strip() for line in str(refused.value).splitlines() if line.startswith("  ")]
    needed = "plain_login" if login == "plain_login" else "withdrawals_login"
    try:
        for line in lines:
            with owner.begin() as connection:
                connection.exec_driver_sql(line)
        pooler.reconnect()
        after = Database(environment.model_copy(update={"database_url": SecretStr(pooler.url(url, needed))}))
        assert after.verify().role == environment.database_role
        after.close()
    finally:
        before.close()
        with owner.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {needed}")
            connection.exec_driver_sql(f"DROP ROLE {needed}")


def test_a_login_whose_timeout_is_longer_than_the_lease_allows_is_refused(
    environment: Settings, owner: Database, pooler: PgBouncer
) -> None:
    database = re.sub(r".*/(\w+)\?.*", r"\1", environment.database_direct_url.get_secret_value())
    with owner.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {LOGIN} IN DATABASE {database} SET statement_timeout = '16s'")
        connection.exec_driver_sql(f"ALTER ROLE {LOGIN} IN DATABASE {database} SET lock_timeout = '1s'")
    opened = Database(environment)
    with pytest.raises(SessionError, match=r"statement_timeout is 16000, needed at most 15000 ms\.") as refused:
        opened.verify()
    assert "lock_timeout is" not in str(refused.value), "shorter is allowed"


@pytest.mark.parametrize("command", [("migrate",), ("load", "x", "--organisation", "y")])
def test_what_needs_a_session_of_its_own_is_refused_behind_the_pooler(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.delenv("DATABASE_DIRECT_URL")
    settings.cache_clear()
    ran = withdrawals(*command)
    assert ran.code == 2
    assert "Set DATABASE_DIRECT_URL" in ran.err


def test_a_relay_with_a_pooler_as_its_direct_address_ends_and_says_so(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_DIRECT_URL")
    settings.cache_clear()
    with pytest.raises(SessionError, match="DATABASE_DIRECT_URL"):
        open_session(settings())
    ran = withdrawals("relay")
    assert ran.code == 2
    assert "relays need a session of their own" in ran.err


def test_an_owner_whose_login_brings_the_services_role_keeps_their_own_rights(
    direct: Settings, environment: Settings
) -> None:
    """A login can serve both: migrations need more than the service may."""
    as_login = SecretStr(direct.database_url.get_secret_value().replace("//withdrawals@", f"//{LOGIN}@"))
    owner = Database(environment.model_copy(update={"database_direct_url": as_login}), as_owner=True)
    with owner.begin() as connection:
        assert connection.scalar(text("SELECT current_user")) == LOGIN
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
    owner.close()


def test_doctor_shows_role_timeouts_and_the_way_they_go(environment: Settings, servers: LocalServers) -> None:
    findings = {item["what"]: item for item in withdrawals("doctor", "--json").document["items"]}
    assert findings["session"]["level"] == "ok"
    assert "through a connection pooler as pooled_login, acts as withdrawals_service" in findings["session"]["finding"]
    assert "statement_timeout 15000 ms" in findings["session"]["finding"]
    assert findings["direct"]["level"] == "ok"
