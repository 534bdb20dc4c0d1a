"""Rows that are selected: a range with Shift, through the pages of a list, and how many."""

import re

from playwright.sync_api import expect

from tests.console.test_library import people
from tests.support.console import SignIn, accessible
from tests.world import World


def test_rows_are_selected_by_range_and_through_pages(sign_in: SignIn, world: World) -> None:
    series = people(world, "Fire safety", 60)
    page = sign_in("operator")
    page.goto(f"/console/series/{series}")
    boxes = page.locator("tbody input[type=checkbox]")
    count = page.locator("[data-selected] output")
    boxes.nth(1).check()
    boxes.nth(4).click(modifiers=["Shift"])
    expect(count).to_have_text("4 selected")
    boxes.nth(2).focus()
    page.keyboard.press("Space")
    expect(count).to_have_text("3 selected")
    page.get_by_role("link", name="Next page").click()
    expect(count).to_have_text("3 selected, 3 of them on other pages")
    boxes.nth(0).check()
    accessible(page)
    page.reload()
    expect(count).to_have_text("4 selected, 3 of them on other pages")
    page.get_by_role("button", name="Continue to the plan").click()
    expect(page.get_by_text("4 ticked enrolments")).to_be_visible()
    assert len(re.findall("enrolment_ids=", page.url)) == 4
    page.go_back()
    page.get_by_role("button", name="Clear selection").click()
    expect(count).to_have_text("")
    page.get_by_label("Tick all rows of this page").check()
    expect(count).to_have_text("10 selected")
    page.get_by_label("Bulk actions").select_option("all")
    page.get_by_role("button", name="Continue to the plan").click()
    assert "what=all" in page.url
