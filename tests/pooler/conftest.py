"""A database of the test's own, which the service reaches only through PgBouncer in transaction mode."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from ops.local.servers import LocalServers
from tests.acceptance.conftest import processes
from tests.races.conftest import patient, slow_db, threads, withdrawals
from tests.support import pgbouncer
from tests.support.pgbouncer import LOGIN, PgBouncer
from tests.web.conftest import bearer, client, make_hr
from worker import session_settings
from worker.config import Settings, settings
from worker.database import Database
from worker.session_settings import Needed

__all__ = ["bearer", "client", "make_hr", "patient", "processes", "slow_db", "threads", "withdrawals"]


@pytest.fixture(scope="session")
def pooler(servers: LocalServers, template: str) -> Iterator[PgBouncer]:
    """PgBouncer before the test server, for all tests here."""
    with pgbouncer.pgbouncer(servers) as running:
        yield running


@pytest.fixture
def direct(environment: Settings) -> Settings:
    """The settings of this test without the pooler."""
    url = environment.database_direct_url.get_secret_value()
    return environment.model_copy(update={"database_url": SecretStr(url), "database_direct_url": SecretStr("")})


@pytest.fixture
def environment(environment: Settings, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of this test: its own database through the pooler, with a login that brings role and timeouts."""
    url = environment.database_url.get_secret_value()
    login_brings(environment, LOGIN)
    monkeypatch.setenv("DATABASE_URL", pooler.url(url))
    monkeypatch.setenv("DATABASE_DIRECT_URL", url)
    settings.cache_clear()
    yield settings()
    settings.cache_clear()


def login_brings(direct: Settings, login: str) -> None:
    """Make a login, and give it in this test's database what the service's own message tells to."""
    owner = Database(direct, pool_size=1, as_owner=True)
    make_login(owner, login)
    found = session_settings.Found(
        pid=0, login=login, role=login, database=str(owner.run(lambda c: c.scalar(text("SELECT current_database()")))),
        timezone="", statement_timeout=0, lock_timeout=0, idle_in_transaction_session_timeout=0,
        is_privileged=False, role_exists=True,
    )  # fmt: skip
    with owner.begin() as connection:
        for statement in session_settings.statements(found, Needed.by(direct)):
            connection.exec_driver_sql(statement)
    owner.close()


def make_login(owner: Database, login: str) -> None:
    """A login without rights; logins are shared by the databases of the test server."""
    statement = f"DO $$ BEGIN CREATE ROLE {login} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    with owner.begin() as connection:
        connection.exec_driver_sql(statement)
