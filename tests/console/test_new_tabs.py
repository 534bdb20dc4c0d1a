"""A page that answers a form stays open: what leads away from it opens in a new tab, and says so."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from tests.dead_letters.test_desk import made
from tests.support.console import MakeToken, Person, SignIn, accessible
from tests.world import World
from worker.web.console import letter_acts
from worker.web.console.new_tabs import open_beside

OPENS = 'target="_blank" rel="noopener"'
NOTE = '<span class="visually-hidden"> (opens in a new tab)</span>'


def test_a_link_says_that_it_opens_a_new_tab_also_where_it_has_a_label_of_its_own() -> None:
    page = (
        '<p>See <a class="term" href="/a?b=1&amp;c=2">job\n2</a> and '
        '<a href="/d" aria-label="What is this? Brake">?</a>.</p>'
    )
    assert open_beside(page, "opens in a new tab") == (
        f'<p>See <a class="term" href="/a?b=1&amp;c=2" {OPENS}>job\n2{NOTE}</a> and '
        f'<a href="/d" aria-label="What is this? Brake (opens in a new tab)" {OPENS}>?</a>.</p>'
    )


@pytest.mark.parametrize(
    "link",
    [
        '<nav aria-label="Pages"><ol><li><a href="/a">A</a></li></ol></nav>',
        '<a href="#main">A</a>',
        '<a class="button quiet" href="/a">Cancel</a>',
        '<a href="/a" target="_self">Back to the list</a>',
        '<a href="/a/faults" download>A</a>',
        "<abbr title='a'>A</abbr>",
    ],
)
def test_what_is_a_way_on_or_out_stays_in_the_tab(link: str) -> None:
    assert open_beside(link, "opens in a new tab") == link


def test_a_plan_that_answers_a_form_is_left_open_and_a_plan_with_an_address_of_its_own_is_not(
    client: TestClient, token: MakeToken, world: World
) -> None:
    operator = Person(client, token("operator"))
    enrolment = world.enrolment("anna")
    sent = {"csrf": operator.csrf, "reason": "not_required"}
    file = {"file": ("a.csv", f"enrolment_id\n{enrolment}")}
    of_file = client.post("/console/withdraw/file", data=sent, files=file, follow_redirects=True).text
    of_ticked = operator.get(f"/console/withdraw?what=ticked&enrolment_ids={enrolment}&reason=not_required")
    for page in (of_file, of_ticked):
        assert f'<a href="/console/enrolments/{enrolment}">anna</a>' in page
        assert "_blank" not in page
    form = {**sent, "what": "ticked", "enrolment_ids": enrolment, "key": "k", "plan_hash": "x"}
    again = client.post("/console/withdraw", data=form)
    assert again.status_code == 422
    assert f'<a href="/console/enrolments/{enrolment}" {OPENS}>anna{NOTE}</a>' in again.text
    assert f'<a href="/console/glossary" {OPENS}>Glossary{NOTE}</a>' in again.text
    assert '<a class="button quiet" href="/console/series">Cancel</a>' in again.text
    assert "_blank" not in again.text[: again.text.index("<main")], "the menu stays as it is"
    assert re.search(r'href="/console/series" target="_self">Back to the list</a>', again.text)
    german = client.post("/console/withdraw", data=form, headers={"Accept-Language": "de"})
    assert "(öffnet einen neuen Tab)" in german.text


def test_the_preview_of_an_act_on_many_letters_is_left_open(
    client: TestClient, token: MakeToken, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_acts, "FEW", 1)
    letters = made(world, 2, "poison", hours=5)
    approver = Person(client, token("approver"))
    page = approver.post("/console/dead-letters/act", 200, act="redrive", code="poison", expected="2").text
    shown = re.findall(r'<a href="/console/dead-letters/(\d+)" ([^>]*)>', page)
    assert shown
    assert {int(letter) for letter, _ in shown} <= set(letters)
    assert {how for _, how in shown} == {OPENS}
    assert '" target="_self">Back to the letters</a>' in page


def test_whoever_follows_a_link_of_a_plan_that_is_left_open_still_has_it(sign_in: SignIn, world: World) -> None:
    """Without a script: the plan that is shown anew, in place of one that no longer held when it was confirmed."""
    page = confirmed_too_late(sign_in, world, js=False)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="anna (opens in a new tab)").click()
    expect(opened.value.get_by_role("heading", name="anna").first).to_be_visible()
    assert opened.value.evaluate("window.opener") is None
    expect(page.get_by_label("Note")).to_have_value("they left")
    page.get_by_role("button", name="Withdraw 1 of 2 enrolments").click()
    page.wait_for_url("**/console/jobs/*")


def test_a_page_that_is_left_open_is_accessible(sign_in: SignIn, world: World) -> None:
    page = confirmed_too_late(sign_in, world, viewport={"width": 390, "height": 800})
    page.get_by_role("link", name="anna (opens in a new tab)").wait_for()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"


def confirmed_too_late(sign_in: SignIn, world: World, **context: Any) -> Page:
    """The answer to somebody who confirms the plan of two enrolments, one of which has ended meanwhile."""
    ticked = "&".join(f"enrolment_ids={world.enrolment(one)}" for one in ("anna", "ben"))
    page = sign_in("operator", at=f"/console/withdraw?what=ticked&{ticked}&reason=not_required", **context)
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = (SELECT min(id) FROM lms.enrolments)")
    page.get_by_label("Note").fill("they left")
    page.get_by_role("button", name="Withdraw 2 enrolments").click()
    expect(page.get_by_text("The enrolments have changed since the plan was made.")).to_be_visible()
    return page
