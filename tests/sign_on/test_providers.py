"""Sign-in with real providers: in a browser with `oidc-provider-mock`, and with npm's certified `oidc-provider`."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from pydantic import SecretStr

from tests.support.console import Watched, accessible, chromium, close, says
from tests.support.providers import CLIENT, SECRET, certified_provider, mock_provider, settings_for
from tests.support.scraping import free_port
from tests.support.web import serving
from tests.world import PATIENCE, World, eventually
from worker.config import Settings
from worker.database import Database


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_person_signs_in_in_a_browser_sees_their_sessions_and_signs_out(
    db: Database, world: World, environment: Settings, browser: Browser
) -> None:
    world.run("UPDATE lms.organisations SET name = 'Acme'")
    port, watched = free_port(), Watched()
    with mock_provider() as issuer:
        settings = settings_for(
            environment,
            issuer,
            "staff=owner@Acme",
            public_url=f"http://127.0.0.1:{port}",
            oidc_name="Acme ID",
            oidc_client_secret=SecretStr(SECRET),
        )
        with serving(db, settings, port=port) as address:
            visitor = browser.new_context(base_url=address, viewport={"width": 390, "height": 800})
            visitor.route(re.compile("^https:"), lambda route: route.abort())  # the mock's page has a style from afar
            page = visitor.new_page()
            watched.watch(page)
            page.goto("/console/jobs")
            accessible(page)
            page.get_by_role("link", name="Sign in with Acme ID").click()
            page.locator("input[name=sub]").first.fill("ada@acme.example")
            page.get_by_role("button", name="Authorize").click()
            page.get_by_role("heading", name="Jobs").wait_for()
            page.get_by_role("button", name="Menu").click()
            page.get_by_role("link", name="Ada Lovelace (owner)").click()
            page.get_by_role("heading", name="Everybody").wait_for()
            accessible(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.get_by_role("button", name="Menu").click()
            page.get_by_role("button", name="Sign out").click()
            says(page, "You are signed out")
            accessible(page)
            expect(page.get_by_role("link", name="Sign out at Acme ID")).to_have_attribute(
                "href", re.compile(re.escape(f"{issuer}/oauth2/end_session?client_id={CLIENT}"))
            )
            page.goto("/console/jobs")
            page.get_by_role("link", name="Sign in with Acme ID").wait_for()
            close(browser)
    assert [fault for fault in watched.faults if "picocss" not in fault] == []


def test_the_certified_provider_signs_in_and_ends_sessions(db: Database, world: World, environment: Settings) -> None:
    world.run("UPDATE lms.organisations SET name = 'Acme'")
    port = free_port()
    service = f"http://127.0.0.1:{port}"
    with certified_provider(service) as issuer:
        settings = settings_for(
            environment,
            issuer,
            "staff=operator@Acme",
            public_url=service,
            oidc_client_secret=SecretStr(SECRET),
            oidc_scopes="openid profile email groups",
        )
        with serving(db, settings, port=port), httpx2.Client(follow_redirects=True, timeout=PATIENCE) as visitor:
            page = visitor.get(f"{service}/console/sign-in/provider")
            page = _send(visitor, page, login="ada.staff", password="any")  # noqa: S106
            page = _send(visitor, page)  # consent
            assert page.url == f"{service}/console", page.text
            assert "ada (operator)" in page.text
            assert world.one("SELECT provider_session FROM withdrawals.sessions")

            out = visitor.get(f"{issuer}/session/end", params={"client_id": CLIENT})
            _send(visitor, out, logout="yes")
            eventually(lambda: world.one("SELECT count(*) FROM withdrawals.sessions") == 0)
            eventually(lambda: visitor.get(f"{service}/console").url.path == "/console/sign-in")


def _send(visitor: httpx2.Client, page: httpx2.Response, **typed: str) -> httpx2.Response:
    """Send the form of a page with its own fields."""
    action = re.search(r'<form[^>]* action="([^"]+)"', page.text)
    assert action, page.text
    fields: dict[str, Any] = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    return visitor.post(page.url.join(action[1]), data={**fields, **typed})
