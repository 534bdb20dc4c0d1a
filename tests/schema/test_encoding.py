"""A database that does not say which characters its bytes are: text of it would be bytes to the service."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy

from tests.support.commandline import withdrawals
from tests.support.databases import Cluster
from worker.config import Settings, settings
from worker.database import Database
from worker.errors import SessionError


@pytest.fixture
def without_encoding(cluster: Cluster, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    name = f"plain_{uuid4().hex[:8]}"
    cluster.run(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(database=name)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    settings.cache_clear()
    yield settings()
    cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_migration_says_that_the_database_has_no_encoding(without_encoding: Settings) -> None:
    ran = withdrawals("migrate")
    assert ran.code == 2
    assert "SQL_ASCII" in ran.err
    assert "ENCODING 'UTF8'" in ran.err


def test_a_process_of_the_service_says_the_same(without_encoding: Settings) -> None:
    database = Database(without_encoding)
    with pytest.raises(SessionError, match="SQL_ASCII"):
        database.verify()
    database.close()
