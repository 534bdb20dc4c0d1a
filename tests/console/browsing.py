"""What the console's stories have in common: people who sign in, and what no page may ever do."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 60_000  # milliseconds until what a person waits for counts as missing
expect.set_options(timeout=PATIENCE)


class SignIn(Protocol):
    """`sign_in("operator", name="mia", js=False, viewport=…)`: a page, signed in."""

    def __call__(self, role: str, *, name: str | None = None, js: bool = True, **context: Any) -> Page: ...


class MakeToken(Protocol):
    """`token("approver", name="mia")`: the secret of a new token."""

    def __call__(self, role: str, *, name: str | None = None, organisation_id: int | None = None) -> str: ...


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser. Where there is none the tests say so and are skipped, but not in CI."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium here; .ci/run installs it")
        pytest.skip("no Chromium here; install it to run the console's stories")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """Pages that are looked at while a story goes on."""

    faults: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.faults.append(f"script failed: {error}"))
        page.on("console", lambda said: self._heard(said.text))
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, text: str) -> None:
        if "Content Security Policy" in text or "alert" in text:
            self.faults.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1", "data:", "blob:")):
            self.faults.append(f"loaded from elsewhere: {url}")


def accessible(page: Page) -> None:
    """axe-core finds no serious violation on the page as it is now."""
    found = Axe().run(page)
    worst = [item for item in found.response["violations"] if item["impact"] in ("serious", "critical")]
    told = [f"{item['id']}: {item['help']}: {[node['html'][:200] for node in item['nodes'][:3]]}" for item in worst]
    assert not told, f"{page.url}\n" + "\n".join(told)


def says(page: Page, text: str) -> None:
    """Until the page shows this text."""
    page.get_by_text(text).first.wait_for()


def close(browser: Browser) -> None:
    """End every context of a story."""
    for context in browser.contexts:
        with suppress(Exception):
            context.close()
