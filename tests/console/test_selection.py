"""Rows that are selected: a range with Shift, through the pages of a list, and how many."""

import re

from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.console.test_library import people
from tests.dead_letters.test_desk import made
from tests.support.commandline import done
from tests.support.console import MakeToken, SignIn, Visitor, accessible
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


def test_an_act_on_ticked_letters_is_for_these_alone(client: TestClient, token: MakeToken, world: World) -> None:
    """Without JavaScript: the boxes of a page. With none ticked, it is not for all of them."""
    first, second, third = made(world, 3, "poison", hours=5)
    elsewhere = made(world, 1, "poison", o=world.organisation("Other"))[0]
    visitor = Visitor(client, token("operator", name="mia"))
    page = visitor.get("/console/dead-letters").text
    assert len(re.findall(r'name="ids" value="\d+" form="ticked"', page)) == 3
    nothing = visitor.get("/console/dead-letters/act", act="assign", selected="yes")
    assert (nothing.status_code, "Nothing is selected" in nothing.text) == (422, True)
    assert visitor.get("/console/dead-letters/act", act="assign", ids="1,x").status_code == 422
    preview = client.get(
        "/console/dead-letters/act", params={"act": "assign", "selected": "yes", "ids": [first, third]}
    )
    assert "2 letters would get the assignee" in preview.text
    assert f'name="ids" value="{first},{third}"' in preview.text
    sent = visitor.post("/console/dead-letters/act", act="assign", to="me", ids=f"{first},{third},{elsewhere}")
    assert sent.status_code == 303
    given = world.run("SELECT id FROM withdrawals.dead_letters WHERE assignee = 'mia' ORDER BY id")
    assert [row.id for row in given] == [first, third]
    listed = client.get(
        "/v1/dead-letters", params={"ids": [second, elsewhere]}, headers={"Authorization": f"Bearer {token('viewer')}"}
    )
    assert [one["id"] for one in listed.json()["items"]] == [second]
    assert [one["id"] for one in done("dead-letters", "list", "--id", second, "--organisation", "Acme")["items"]] == [
        second
    ]
