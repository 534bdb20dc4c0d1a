"""The service with two organisations, and callers of every role."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.security.estate import Estate, build
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app


@pytest.fixture
def app(db: Database, environment: Settings) -> FastAPI:
    """The application without limits on the rate of calls: these tests make thousands."""
    unlimited = environment.model_copy(update={"rate_limit": 0, "refusal_limit": 0})
    return make_app(db, make_broker(environment.broker_url.get_secret_value()), unlimited)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Calls the application; redirects are answers, and so is an unexpected error."""
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture
def estate(world: World, db: Database, environment: Settings) -> Estate:
    """Two organisations with a record of each kind."""
    return build(world, db, environment)
