"""A direct connection whose login brings nothing, too much or only a part: the process sets the rest by itself."""

from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from starlette.testclient import TestClient

from worker.config import Settings
from worker.database import Database
from worker.errors import SessionError
from worker.queue.broker import make_broker
from worker.web.app import make_app

LOGIN = "direct_login"


@pytest.fixture
def as_login(environment: Settings, owner: Database) -> Iterator[Settings]:
    """Settings with a login that may act as the service and has no settings yet."""
    with owner.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {LOGIN} LOGIN IN ROLE {environment.database_role}")
    url = environment.database_url.get_secret_value().replace("//withdrawals@", f"//{LOGIN}@")
    yield environment.model_copy(update={"database_url": SecretStr(url)})
    with owner.begin() as connection:
        connection.exec_driver_sql(f"DROP ROLE {LOGIN}")


def brings(owner: Database, setting: str) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {LOGIN} SET {setting}")


def test_what_the_login_does_not_bring_is_set_once_for_the_session(as_login: Settings, owner: Database) -> None:
    brings(owner, "timezone = 'Asia/Tokyo'")
    brings(owner, "statement_timeout = '1h'")
    brings(owner, "jit = on")
    database = Database(as_login, pool_size=1)
    for _ in range(2):
        found = database.verify()
        assert (found.role, found.statement_timeout, found.lock_timeout) == (as_login.database_role, 15_000, 3_000)
        assert found.timezone == "UTC"
        assert database.run(lambda connection: connection.scalar(text("SHOW jit"))) == "off"
    database.close()


def test_a_shorter_timeout_of_the_login_stays(as_login: Settings, owner: Database) -> None:
    brings(owner, "statement_timeout = '7s'")
    database = Database(as_login, pool_size=1)
    assert database.verify().statement_timeout == 7_000
    database.close()


def test_a_login_that_may_not_act_as_the_service_is_told_how(as_login: Settings, owner: Database) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql(f"REVOKE {as_login.database_role} FROM {LOGIN}")
    database = Database(as_login, pool_size=1)
    with pytest.raises(SessionError, match=f'GRANT "{as_login.database_role}" TO "{LOGIN}";'):
        database.verify()
    database.close()


def test_a_session_that_is_not_as_needed_any_more_answers_503_without_names(
    as_login: Settings, owner: Database
) -> None:
    database = Database(as_login, pool_size=1)
    app = make_app(database, make_broker(as_login.broker_url.get_secret_value()), as_login)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"REVOKE {as_login.database_role} FROM {LOGIN}")
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/v1/jobs", headers={"Authorization": f"Bearer wdt_{'0' * 16}_{'A' * 43}"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert LOGIN not in answer.text
    database.close()


def test_a_session_that_is_reset_keeps_what_its_login_brings(as_login: Settings, owner: Database) -> None:
    """`DISCARD ALL` is what poolers reset a session with."""
    brings(owner, f"role = '{as_login.database_role}'")
    with psycopg.connect(as_login.database_url.get_secret_value(), autocommit=True) as session:
        assert session.execute("SELECT current_user").fetchone() == (as_login.database_role,)
        session.execute("DISCARD ALL")
        assert session.execute("SELECT current_user").fetchone() == (as_login.database_role,)


def test_no_start_up_option_is_sent(db: Database) -> None:
    with db.begin() as connection:
        at_start = connection.execute(text("SELECT name FROM pg_settings WHERE source = 'client'")).scalars().all()
    assert set(at_start) <= {"application_name", "client_encoding"}
