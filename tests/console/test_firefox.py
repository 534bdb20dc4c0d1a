"""The main story in Firefox: a Series is found, withdrawn after its plan, watched and taken back; pages on a phone."""

from collections.abc import Iterator

import pytest

from tests.console.test_library import enrol, people
from tests.support.console import MakeToken
from tests.support.firefox import Firefox, firefox
from tests.world import World, assert_balanced, eventually
from worker.database import Database
from worker.search.keeper import keep_all


@pytest.fixture
def page(console: str, token: MakeToken) -> Iterator[Firefox]:
    """Somebody who signs in with the form."""
    with firefox() as browser:
        browser.resize(1440, 900)
        browser.goto(f"{console}/console")
        browser.click("field", "Token")
        browser.type(token("operator", name="mia"))
        browser.press("Enter")
        browser.says("Overview")
        yield browser


def _choose(page: Firefox, label: str, option: str) -> None:
    page.click("field", label)
    page.type(option)


def test_a_series_is_found_withdrawn_watched_and_taken_back_in_firefox(
    page: Firefox, console: str, db: Database, world: World, deciding: None
) -> None:
    pathway = world.pathway("Onboarding")
    series_id = people(world, "Hazardous goods", 5)
    enrol(world, series_id, 2, prefix="owned", pathway_id=pathway)
    keep_all(db)

    page.press("Control", "k")
    page.type("hazard")
    page.click("link", "Hazardous goods")
    page.says("7 enrolments")
    _choose(page, "Bulk actions", "Withdraw all")
    _choose(page, "Reason for all", "Enrolment no")
    page.click("button", "Continue to the plan")
    page.says("7 enrolments of 7 learners.")
    page.click("button", "Withdraw 5 of 7 enrolments")
    page.says("Completed with exceptions")
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 5

    page.click("link", "Undo")
    page.click("button", "Show the preview")
    page.click("button", "Reinstate 5 enrolments")
    page.says("Reinstated")
    eventually(lambda: world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == 0)
    assert_balanced(db)

    page.resize(390, 844)
    for path in ("", "/series", f"/series/{series_id}", "/jobs", "/dead-letters", "/reports"):
        page.goto(f"{console}/console{path}")
        wider = page.run("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0, f"{path} is {wider} pixels wider than the screen"
