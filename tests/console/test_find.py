"""Find anything at the console: ⌘K, the page that does the same without JavaScript, the API and the command line."""

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.support.commandline import done, withdrawals
from tests.support.console import MakeToken, SignIn, Visitor, accessible
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.search.keeper import keep_all

NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def maria(db: Database, world: World) -> int:
    """An enrolment of a learner with a name."""
    enrolment = world.enrolment("E/1 ü")
    world.run("UPDATE lms.learners SET display_name = :n", n=f"María O\u2019Brien {NASTY}")
    world.run("UPDATE lms.series SET title = :t", t=f"Brandschutz {NASTY}")
    keep_all(db)
    return enrolment


def test_a_person_is_found_by_keys_alone(sign_in: SignIn, maria: int) -> None:
    page = sign_in("viewer")
    page.keyboard.press("Control+k")
    page.keyboard.type("obri mar")
    dialog = page.get_by_role("dialog", name="Find")
    expect(dialog.get_by_role("link")).to_have_count(1)
    accessible(page)
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Control+a")
    page.keyboard.type(f"{maria}")
    expect(dialog.get_by_role("link", name=f"Enrolment {maria}")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/enrolments/{maria}")
    page.keyboard.press("Meta+k")
    page.keyboard.type("brandsch")
    expect(dialog.get_by_role("link", name="Brandschutz")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_very_learner_stands_above_a_letter_about_them_and_the_letter_leads_to_them(
    client: TestClient, token: MakeToken, world: World, db: Database, environment: Settings
) -> None:
    owned = world.enrolment("590248", pathway_id=world.pathway())
    world.submit(db, [owned])
    decide_due(db, environment)
    keep_all(db)
    visitor = Visitor(client, token("viewer"))
    page = visitor.get("/console/search", q="590248").text
    link, letter = "/console/people?learner=590248", f"/console/dead-letters/{world.letters()[0].id}"
    assert 0 < page.index(f'href="{link}"') < page.index(f'href="{letter}"')
    about = visitor.get(letter).text.partition('id="about"')[2]
    assert f'<dd><a href="{link}">590248</a></dd>' in about


def test_pages_api_and_command_line_find_the_same(
    client: TestClient, token: MakeToken, world: World, maria: int
) -> None:
    secret = token("viewer")
    visitor = Visitor(client, secret)
    page = visitor.get("/console/search", q="o'brien").text
    assert 'href="/console/people?learner=E%2F1+%C3%BC"' in page
    assert "<img" not in page
    assert "Nothing found" in visitor.get("/console/search", q="o'brien peter").text
    assert 'href="/console/search"' in visitor.get("/console").text, "a plain link"

    def search(q: str, bearer: str = secret) -> object:
        answer = client.get("/v1/search", params={"q": q}, headers={"Authorization": f"Bearer {bearer}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = search("brandschutz")
    assert found == done("find", "BRAND", "schutz")
    assert [one["kind"] for one in search("O'BRIEN MARIA")["items"]] == ["learner"]  # type: ignore[index]
    other = token("viewer", organisation_id=world.organisation("Other"))
    assert search("brandschutz", other) == {"items": [], "more": False}
    assert search(f"{maria}", other) == {"items": [], "more": False}
    producer = client.get("/v1/search?q=x", headers={"Authorization": f"Bearer {token('producer')}"})
    assert producer.status_code == 403
    nothing = withdrawals("find", "o'brien", "peter", "--organisation", "Acme")
    assert (nothing.code, nothing.out) == (1, "")
