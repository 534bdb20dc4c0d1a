"""The console's visitors, with a browser and without one; jobs and letters for them to see; what no page may do."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.testclient import TestClient

from schemas.control import BrakeSetting
from schemas.jobs import JobRequest
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake
from worker.jobs.submit import Requester, submit
from worker.records import Job

NASTY = "<img src=x onerror=alert(1)>"


class Visitor:
    """Somebody signed in without a browser; gives the answers as they are, errors included."""

    def __init__(self, client: TestClient, secret: str) -> None:
        self.client = client
        client.cookies.clear()
        assert client.post("/console/sign-in", data={"token": secret}).status_code == 303
        self.csrf = field_of(self.get("/console/glossary").text, "csrf")  # a page that asks the database nothing

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, params=query or None)

    def post(self, path: str, /, **form: Any) -> Any:
        return self.client.post(path, data={"csrf": self.csrf, **form})


class Person:
    """Somebody signed in without a browser, for whom every answer must be the one that the test expects."""

    def __init__(self, client: TestClient, secret: str) -> None:
        self.client = client
        self._visitor = Visitor(client, secret)
        self.csrf = self._visitor.csrf

    def get(self, path: str, status: int = 200) -> str:
        answer = self._visitor.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        return str(answer.text)

    def post(self, path: str, expected: int = 303, /, **form: str | list[str]) -> Any:
        answer = self._visitor.post(path, **form)
        assert answer.status_code == expected, (path, answer.status_code, answer.text[:2000])
        return answer


SOURCES = "/console/settings/sources"


def add_source(owner: Person, kind: str = "standard", name: str = "workday") -> str:
    """Connect an HR source by the form of its page; where its own page is."""
    form = {"name": name, "kind": kind, "on_deactivate": "hold", "grace_hours": "0"}
    return str(owner.post(SOURCES, **form).headers["location"])


def field_of(html: str, name: str) -> str:
    """What a hidden field of the page's form carries."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found, html
    return found[1]


def ask(db: Database, world: World, ids: list[int], *, actor: str = "token:mia", **request: Any) -> Job:
    """A bulk job that somebody asks for at the console."""
    request.setdefault("reason", "not_required")
    requester = Requester(world.organisation_id, actor, "console", f"key-{ids[0]}-{actor}")
    return submit(db, requester, JobRequest(enrolment_ids=ids, **request), chunk_size=5).job


def held_job(db: Database, world: World, count: int = 8, **request: Any) -> Job:
    """A job that the brake holds, of mia's."""
    setting = BrakeSetting(floor=2, share=0.1)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=setting, actor="test:approver")
    return ask(db, world, world.enrolments(count), **request)


def one_owned(db: Database, world: World, environment: Settings) -> tuple[int, int]:
    """A letter of a pathway's enrolment: letter, enrolment; the learner has others in the pathway."""
    pathway = world.pathway(f"Onboarding {NASTY}")
    enrolment, _, _ = (
        world.enrolment("anna", status, pathway_id=pathway) for status in ("in_progress", "no_attempts", "mastered")
    )
    world.run("UPDATE lms.learners SET display_name = :n", n=f"Anna {NASTY}")
    world.run("UPDATE lms.series SET title = 'Rust ' || :x || id", x=NASTY)
    world.submit(db, [enrolment], note=f"left in May {NASTY}", reason="learner_declined")
    decide_due(db, environment)
    return eventually(world.letters)[0].id, enrolment


PATIENCE = 180_000  # milliseconds until what a person waits for counts as missing
expect.set_options(timeout=PATIENCE)


class SignIn(Protocol):
    """`sign_in("operator", name="mia", js=False, at="/console/jobs", viewport=…)`: a page, signed in."""

    def __call__(
        self, role: str, *, name: str | None = None, js: bool = True, at: str = "/console", **context: Any
    ) -> Page: ...


def connected(sign_in: SignIn, kind: str) -> Page:
    """In a browser an owner connects the HR source `payroll`: its own page, which shows its secret once."""
    page = sign_in("owner", at=SOURCES)
    page.locator("main input[name=name]").fill("payroll")
    page.get_by_label("Which HR system").select_option(kind)
    page.get_by_label("When a person is deactivated").select_option("hold")
    page.get_by_role("button", name="Connect", exact=True).click()
    return page


class MakeToken(Protocol):
    """`token("approver", name="mia")`: the secret of a new token."""

    def __call__(self, role: str, *, name: str | None = None, organisation_id: int | None = None) -> str: ...


PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser, without its windows if it has such a program: it takes a third less time.

    Where there is none the tests say so and are skipped, but not in CI.
    """
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
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


ABOUT_COLOUR = ["color-contrast", "link-in-text-block"]
"""The rules of axe-core whose result depends on the colour scheme."""


_AXE = Axe().axe_script
_WORST = """async options => {
    const found = await axe.run(options);
    const worst = found.violations.filter(item => ["serious", "critical"].includes(item.impact));
    const shown = item => item.nodes.slice(0, 3).map(node => node.html.slice(0, 200));
    const kinds = ["violations", "passes", "incomplete", "inapplicable"];
    const rules = kinds.reduce((sum, kind) => sum + found[kind].length, 0);
    return {rules, worst: worst.map(item => `${item.id}: ${item.help}: ${JSON.stringify(shown(item))}`)};
}"""
"""What is serious, and how many rules were looked at; whole results are large, and are not read."""


def accessible(page: Page, rules: list[str] | None = None) -> None:
    """axe-core finds no serious violation on the page as it is now. `rules`: these alone.

    By default all that it has, and that what one clicks has 24 pixels (WCAG 2.2, 2.5.8), which it leaves out by itself.
    """
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {"rules": {"target-size": {"enabled": True}}}
    if not page.evaluate("typeof axe === 'object'"):  # it is large, and a page may be looked at twice
        page.evaluate(_AXE)
    found = page.evaluate(_WORST, {"resultTypes": ["violations"], **only})
    assert found["rules"], "axe-core looked at nothing"
    assert not found["worst"], f"{page.url}\n" + "\n".join(found["worst"])


def says(page: Page, text: str) -> None:
    """Until the page shows this text."""
    page.get_by_text(text).first.wait_for()


def close(browser: Browser) -> None:
    """End every context of a story."""
    for context in browser.contexts:
        with suppress(Exception):
            context.close()
