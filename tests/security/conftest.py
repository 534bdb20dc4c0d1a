"""The service with two organisations, and callers of every role."""

from collections.abc import Iterator

import pytest
import sqlalchemy
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.security.estate import Estate, Estates
from tests.support.databases import Cluster, Databases
from tests.support.web import with_one_document
from worker.config import Settings, settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app


@pytest.fixture
def app(db: Database, environment: Settings) -> FastAPI:
    """The application without limits on the rate of calls: these tests make thousands."""
    unlimited = environment.model_copy(update={"rate_limit": 0, "refusal_limit": 0})
    return with_one_document(make_app(db, make_broker(environment.broker_url.get_secret_value()), unlimited))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Calls the application; redirects are answers, and so is an unexpected error."""
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture(scope="session")
def estates(cluster: Cluster, template: str, databases: Databases) -> Iterator[Estates]:
    """Databases with two organisations, filled once."""
    found = Estates(cluster, template, databases.sessions)
    yield found
    found.close()


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, environment: Settings, estates: Estates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of this test: with a database that has two organisations if it asks for them."""
    if "estate" not in request.fixturenames:
        yield environment
        return
    name = estates.take(environment)
    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(database=name)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    settings.cache_clear()
    yield settings()
    settings.cache_clear()
    estates.give_back(name)


@pytest.fixture
def estate(estates: Estates, owner: Database, db: Database) -> Estate:
    """Two organisations with a record of each kind."""
    return estates.shown(owner, db)
