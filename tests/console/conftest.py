"""The console behind a real server, and a real Chromium to look at it with."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page
from starlette.testclient import TestClient

from tests.support.console import MakeToken, SignIn, Watched, chromium, close
from tests.support.racing import workers
from tests.support.web import serving
from tests.world import PATIENCE, World
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.web.app import make_app
from worker.web.console import acted


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file of stories: its event loop must not be there when other tests run theirs."""
    with chromium() as found:
        yield found


@pytest.fixture
def console(db: Database, environment: Settings) -> Iterator[str]:
    """The address of a running service."""
    with serving(db, environment) as address:
        yield address


@pytest.fixture
def token(db: Database, world: World) -> MakeToken:
    """Tokens to sign in with."""

    def make(role: str, *, name: str | None = None, organisation_id: int | None = None) -> str:
        organisation_id = organisation_id or world.organisation_id
        name = name or f"{role}-{uuid4().hex[:6]}"
        return tokens.create(db, organisation_id=organisation_id, name=name, role=role, actor="test:approver").secret

    return make


@pytest.fixture
def sign_in(browser: Browser, console: str, token: MakeToken) -> Iterator[SignIn]:
    """People at the console; whatever they do, no page may break its own policy, run a fault or ask elsewhere."""
    watched = Watched()

    def make(role: str, *, name: str | None = None, js: bool = True, at: str = "/console", **context: Any) -> Page:
        visitor = browser.new_context(base_url=console, java_script_enabled=js, **context)
        # As the form does, without two pages to draw; test_sign_in fills in the form.
        answer = visitor.request.post("/console/sign-in", form={"token": token(role, name=name)}, max_redirects=0)
        assert answer.status == 303, answer.text()
        page = visitor.new_page()
        watched.watch(page)
        page.goto(at)
        return page

    yield make
    close(browser)
    assert not watched.faults, watched.faults


@pytest.fixture
def client(db: Database, environment: Settings) -> Iterator[TestClient]:
    """Calls the console without a browser; redirects are answers."""
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture
def deciding(db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers and a relay beside the pages; a page waits for them as long as it takes."""
    monkeypatch.setattr(acted, "_SHOWN_AT_ONCE", PATIENCE)
    broker = make_broker(environment.broker_url.get_secret_value())
    relay = Relay(db, broker, environment)
    thread = threading.Thread(target=relay.run)
    with workers(db, environment, 2, pause=0.1):  # a browser takes longer
        thread.start()
        yield
        relay.stop()
        thread.join()
    broker.close()
    broker.client.close()
