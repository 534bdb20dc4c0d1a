"""A console with a provider to sign in with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.providers import PUBLIC, Forger, forging, settings_for
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.sign_on import kept, provider
from worker.web.app import make_app

Console = Callable[..., TestClient]
ROLES = "staff=viewer@Acme; bosses=owner@Acme; approvers=approver@Acme; staff=viewer@Other"


@pytest.fixture
def forger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forger]:
    """A provider that says what the test wants; its keys may be read again at once."""
    monkeypatch.setattr(provider, "KEYS_AGAIN", 0.0)
    monkeypatch.setattr(kept, "FAILED_SECONDS", 0.0)
    with forging() as made:
        yield made


@pytest.fixture
def console(db: Database, environment: Settings, world: World) -> Iterator[Console]:
    """`console(issuer, roles=…)`: the console of a process of its own, and a browser."""
    world.run("UPDATE lms.organisations SET name = 'Acme'")
    with ExitStack() as stack:

        def make(issuer: str, *, roles: str = ROLES, **more: Any) -> TestClient:
            broker = make_broker(environment.broker_url.get_secret_value())
            app = make_app(db, broker, settings_for(environment, issuer, roles, **more))
            made = TestClient(app, PUBLIC, raise_server_exceptions=False, follow_redirects=False)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def client(console: Console, forger: Forger) -> TestClient:
    """A browser at the console whose people sign in with the forger."""
    return console(forger.issuer)
