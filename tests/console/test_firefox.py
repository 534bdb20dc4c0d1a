"""The main stories in Firefox: a Series is withdrawn and taken back; the tasks of a first day; pages on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.test_library import enrol, people
from tests.support.console import MakeToken, ask, held_job
from tests.support.firefox import Firefox, firefox
from tests.support.workbooks import xlsx
from tests.world import World, assert_balanced, eventually
from worker.database import Database
from worker.search.keeper import keep_all

pytestmark = pytest.mark.long
"""Small: the same acts in Chromium, in the other files of this folder."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Firefox]:
    """One for all stories: it takes seconds to start."""
    with firefox() as found:
        yield found


@pytest.fixture
def page(browser: Firefox, console: str, token: MakeToken) -> Firefox:
    """Somebody who signs in with the form."""
    browser.resize(1440, 900)
    browser.goto(f"{console}/console")
    browser.click("field", "Token")
    browser.type(token("owner", name="ola"))
    browser.press("Enter")
    browser.says("Overview")
    return browser


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
    _choose(page, "Reason for all", "Enrolment no")
    page.click("button", "Withdraw this Series")
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


def _clear_letters(page: Firefox) -> None:
    """Two are kept, as recommended; then the one that is left is decided on."""
    page.click("link", "Owned by a pathway: 3")
    page.click("button", "Leave all 2 as they are (keep)")
    page.says("1 letter is still open")
    page.says("A person decides")
    page.click("field", "Withdraw it anyway (override)")
    page.click("field", "Note: why")
    page.type("an error")
    page.click("button", "Do this")
    page.says("Nothing needs attention any more.")


def _send_file(page: Firefox, file: Path, rows: list[list[object]]) -> None:
    """A workbook with a fault in line 3; its good row is withdrawn."""
    file.write_bytes(xlsx([["Enrolment ID"], *rows]))
    page.click("link", "Withdraw from a file")
    page.upload("input[type=file]", file)
    _choose(page, "Reason for all", "Enrolment no")
    page.click("button", "Show the plan")
    page.says("Enrolment ID: 'oops' is not a positive whole number")
    page.click("button", "Withdraw 1 enrolment")
    page.says("1 row was left out")


def _connect(page: Firefox) -> None:
    """An HR system."""
    page.click("link", "Settings")
    page.click("field", "Name")
    page.type("payroll")
    _choose(page, "Which HR system", "Any other")
    _choose(page, "When a person is deactivated", "Ask")
    page.click("button", "Connect")
    page.click("button", "It is copied: send a test event")
    page.says("Test event received")


def test_the_tasks_of_a_first_day_are_done_in_firefox(
    page: Firefox, console: str, db: Database, world: World, deciding: None, tmp_path: Path
) -> None:
    """Letters of two reasons, one learner, a file with a fault, an HR source, a held job."""
    pathway = world.pathway("Onboarding")
    owned = [world.enrolment(f"owned{n}", pathway_id=pathway) for n in range(3)]
    ask(db, world, owned[:2], reason="learner_declined")
    ask(db, world, owned[2:], reason="enrolment_error", source="correction")
    anna, ben = world.enrolment("anna"), world.enrolment("ben")
    eventually(lambda: len(world.letters()) == 3)

    page.goto(f"{console}/console")
    _clear_letters(page)
    assert [world.status(one) for one in owned] == ["in_progress", "in_progress", "withdrawn"]

    page.click("link", "Learners")
    page.click("link", "anna")
    page.click("link", "Withdraw …")
    _choose(page, "Reason", "Enrolment no")
    page.click("button", "Withdraw")
    eventually(lambda: world.status(anna) == "withdrawn")
    page.click("button", "Reinstate")
    page.says("Reinstated.")
    assert world.status(anna) == "in_progress"

    _send_file(page, tmp_path / "leavers.xlsx", [[ben], ["oops"]])
    eventually(lambda: world.status(ben) == "withdrawn")

    _connect(page)

    job = held_job(db, world)
    page.goto(f"{console}/console/approvals")
    page.click("link", "See all 8 enrolments that it names")
    page.click("button", "Approve: release 8 enrolments")
    page.says("Approved and released. The job has started.")
    eventually(lambda: world.one("SELECT finished_at FROM withdrawals.jobs WHERE id = :id", id=job.id))
    assert_balanced(db)
