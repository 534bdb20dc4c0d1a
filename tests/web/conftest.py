"""The HTTP application over this test's database, and tokens to call it with."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.support.web import Hr, MakeHr, make_source, serving, with_one_document
from tests.world import PATIENCE, World
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web import rate_limits
from worker.web.app import make_app


@pytest.fixture(autouse=True)
def _redis_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no busy machine make Redis look as if it were away: that would let every call through."""
    monkeypatch.setattr(rate_limits, "TIMEOUT", PATIENCE)


@pytest.fixture
def client(db: Database, environment: Settings) -> Iterator[TestClient]:
    """Calls the application; an unexpected error is an answer here, as for a user."""
    app = with_one_document(make_app(db, make_broker(environment.broker_url.get_secret_value()), environment))
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def impatient(environment: Settings) -> Iterator[TestClient]:
    """As `withdrawals web` has it: who waits is rather told to come back."""
    database = Database(environment, retry_seconds=0.3)
    app = make_app(database, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made
    database.close()


@pytest.fixture
def address(db: Database, environment: Settings) -> Iterator[str]:
    """The service behind uvicorn on a free port."""
    with serving(db, environment) as found:
        yield found


@pytest.fixture
def bearer(db: Database, world: World) -> Callable[..., dict[str, str]]:
    """Headers of a new token: `bearer("operator")`, `bearer("viewer", organisation_id=…, name=…)`."""

    def make(role: str, *, organisation_id: int | None = None, name: str | None = None) -> dict[str, str]:
        made = tokens.create(
            db,
            organisation_id=organisation_id or world.organisation_id,
            name=name or f"{role}-{uuid4().hex[:8]}",
            role=role,
            actor="test:approver",
        )
        return {"Authorization": f"Bearer {made.secret}"}

    return make


@pytest.fixture
def make_hr(client: TestClient, db: Database, environment: Settings, world: World) -> MakeHr:
    """An HR system: `make_hr("workday", on_deactivate="hold")`."""

    def make(name: str = "workday", *, organisation_id: int | None = None, **policy: Any) -> Hr:
        organisation_id = organisation_id or world.organisation_id
        return Hr(client, name, make_source(db, environment, organisation_id, name, **policy))

    return make


@pytest.fixture
def hr(make_hr: MakeHr) -> Hr:
    """An HR system that speaks Standard Webhooks."""
    return make_hr()
