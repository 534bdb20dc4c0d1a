"""From one dead letter to the next: in the order of the list, within its filter, with keys and without JavaScript."""

import re

from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.dead_letters.test_desk import made
from tests.support.console import MakeToken, SignIn, Visitor
from tests.world import World

LETTERS = "/console/dead-letters"


def test_letters_follow_each_other_as_in_the_list_and_within_the_filter(
    client: TestClient, token: MakeToken, world: World
) -> None:
    """Targets differ by code, so that the order is not that of the ids."""
    (late,) = made(world, code="poison", hours=2000)
    (owned,) = made(world, code="pathway_owned", hours=300)
    (young,) = made(world, code="poison", hours=1)
    (closed,) = made(world, code="poison", hours=1000, state="resolved")
    (older,) = made(world, code="poison", hours=1000, state="discarded")
    made(world, code="poison", o=world.organisation("Other"))
    visitor = Visitor(client, token("operator"))

    def beside(letter: int, query: str = "") -> list[int | None]:
        page = visitor.get(f"{LETTERS}/{letter}{query}")
        assert page.status_code == 200, page.text
        found = (re.search(rf'rel="{rel}"[^>]* href="{LETTERS}/(\d+)', page.text) for rel in ("prev", "next"))
        return [int(one[1]) if one else None for one in found]

    rows = visitor.get(LETTERS).text.partition('id="list"')[2]
    listed = [int(one) for one in re.findall(rf'href="{LETTERS}/(\d+)"', rows)]
    live = [one for one in listed if one in (late, owned, young)]
    assert live[0] == late
    for place, letter in enumerate(live):
        before = live[place - 1] if place else None
        after = live[place + 1] if place + 1 < len(live) else None
        assert beside(letter) == [before, after]
    assert beside(late, "?code=poison&state=open") == [None, young]
    assert beside(closed)[1] in (owned, young), "after an act the next open one follows"
    assert beside(older, "?state=resolved") == [None, closed]
    assert (
        f'action="{LETTERS}/{late}/act?code=poison&amp;state=open"'
        in visitor.get(f"{LETTERS}/{late}", code="poison", state="open").text
    )
    sent = visitor.post(f"{LETTERS}/{late}/assign?code=poison", to="name", name="dora")
    assert sent.headers["location"] == f"{LETTERS}/{late}?code=poison", "the filter stays after an act"
    assert '<option value="dora">' in visitor.get(f"{LETTERS}/{young}").text, "a name to choose for another letter"


def test_keys_lead_through_letters_but_not_while_somebody_types(sign_in: SignIn, world: World) -> None:
    first, second = made(world, 2, "poison", hours=5)
    page = sign_in("operator", at=f"{LETTERS}/{first}?code=poison")
    page.keyboard.press("j")
    page.wait_for_url(f"**{LETTERS}/{second}?code=poison")
    page.get_by_label("New note").press_sequentially("kj")
    expect(page.get_by_label("New note")).to_have_value("kj")
    page.get_by_role("heading", name=f"Letter {second}").click()
    page.keyboard.press("k")
    page.wait_for_url(f"**{LETTERS}/{first}?code=poison")
    page.goto(LETTERS)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the list")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#list :focus")).to_have_count(1)
