"""Support at the desk: letters found, understood and cleared, one by one and all that match."""

import re

import pytest
from playwright.sync_api import expect

from tests.dead_letters.test_runs import freed, owned
from tests.support.console import NASTY, SignIn, accessible, one_owned, says
from tests.world import World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database


def test_a_pathway_owned_letter_is_found_understood_and_overridden(
    sign_in: SignIn, db: Database, world: World, environment: Settings, deciding: None
) -> None:
    letter, enrolment = one_owned(db, world, environment)
    page = sign_in("approver", name="mia")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Needs attention 1").click()
    says(page, f"Anna {NASTY}")
    accessible(page)
    page.get_by_role("region", name="Open letters by kind and age").get_by_role("link", name="Owned").click()
    page.wait_for_url(re.compile(r"\?code=pathway_owned$"))
    page.get_by_role("link", name=f"Letter {letter}", exact=True).click()
    says(page, f'the Learning Pathway "Onboarding {NASTY}" owns it.')
    says(page, f"left in May {NASTY}")
    says(page, "Trying again will fail")
    others = page.get_by_role("region", name="Other enrolments in this pathway")
    expect(others.get_by_role("row")).to_have_count(3)
    expect(others.get_by_text("would be withdrawn")).to_have_count(1)
    accessible(page)
    page.get_by_role("button", name="Assign to me").click()
    says(page, "This letter is assigned to mia.")
    page.get_by_role("radio", name="Override").check()
    page.get_by_role("button", name="Do this").click()
    says(page, "note: a remedy needs a note that says why")
    assert page.get_by_role("radio", name="Override").is_checked()
    page.get_by_label("Note: why").fill(f"Agreed with its owner. {NASTY}")
    page.get_by_role("button", name="Do this").click()
    says(page, "Resolved by mia")
    says(page, "Withdraw anyway (override).")
    assert world.status(enrolment) == "withdrawn"
    expect(page.get_by_role("heading", name="What can be done")).to_have_count(0)
    page.get_by_role("link", name="what happened to it").click()
    says(page, "An approver decided to withdraw the enrolment although a Learning Pathway owns it")
    says(page, f"Agreed with its owner. {NASTY}")
    says(page, "on the command line")
    accessible(page)
    page.get_by_role("link", name="Needs attention", exact=True).click()
    says(page, "Nothing needs attention.")
    page.get_by_role("link", name="Show the closed letters").click()
    expect(page.get_by_role("region", name="Letters", exact=True).get_by_text("Resolved")).to_be_visible()
    assert_balanced(db)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_many_letters_are_redriven_with_preview_and_canary(
    sign_in: SignIn, db: Database, world: World, environment: Settings, deciding: None, count: int
) -> None:
    ids = owned(db, world, environment, count)
    eventually(lambda: len(world.letters()) == count)
    freed(world, ids)
    page = sign_in("operator", at="/console/dead-letters/groups")
    says(page, f"{count:,} letters of 1 cause")
    accessible(page)
    page.get_by_role("link", name="See the letters of pathway_owned").click()
    says(page, f"{count:,} letters")
    page.get_by_role("button", name=f"Try all {count:,} again (redrive)").click()
    says(page, f"{count:,} letters: {count:,} would be withdrawn.")
    accessible(page)
    assert world.one("SELECT count(*) FROM withdrawals.runs") == 0
    page.get_by_text("Trial batch: 3 of each cause first").click()
    page.get_by_label("Trial batch").fill("5")
    page.get_by_label("Letters a second").fill("1000")
    page.get_by_label("Number of enrolments").fill(f"{count:,}")
    page.get_by_role("button", name=f"Try {count:,} letters again").click()
    page.get_by_role("heading", name="Run 1").wait_for()
    says(page, "This run is done.")
    says(page, "5 of each cause")
    assert world.one("SELECT count(*) FROM withdrawals.run_letters WHERE canary") == 5
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == count
    accessible(page)
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("row", name="Redrive").get_by_text("Done")).to_be_visible()
    accessible(page)


@pytest.mark.parametrize("count", [55, pytest.param(292, marks=pytest.mark.long)])
def test_letters_are_cleared_as_one_action_with_a_note_and_without_javascript(
    sign_in: SignIn, db: Database, world: World, environment: Settings, deciding: None, count: int
) -> None:
    ids = owned(db, world, environment, count)
    eventually(lambda: len(world.letters()) == count)
    page = sign_in("approver", name="mia", js=False, at="/console/dead-letters")
    page.get_by_text("Filters", exact=True).click()
    page.get_by_role("combobox", name="State").select_option("open")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Do something else").click()
    page.get_by_role("combobox", name="What to do").select_option("override")
    page.get_by_role("button", name=f"Preview for all {count} open letters").click()
    page.get_by_label("Note: why").fill("The pathway is given up.")
    page.get_by_label("Number of enrolments").fill(str(count))
    page.get_by_role("button", name=f"Withdraw {count} enrolments").click()
    says(page, f"The run over {count} letters has started.")
    says(page, "This run is done.")  # the page looks again by itself
    assert {world.status(enrolment) for enrolment in ids} == {"withdrawn"}
    page.goto(f"/console/dead-letters/{world.letters()[17].id}")
    says(page, "Withdraw anyway (override).")
    says(page, "The pathway is given up.")
    page.go_back()
    says(page, "This run is done.")
    assert_balanced(db)
