"""What the administrator of an HR system is told to do there, on the page of a source and in the guides alike."""

import html
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from tests.support.console import SOURCES, MakeToken, Person, SignIn, connected
from tests.support.web import event, signed
from tests.world import World, apply_inbox
from worker.config import Settings
from worker.database import Database
from worker.people import hr_sources
from worker.web.console.settings import source_steps

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
FORM = {"name": "payroll", "on_deactivate": "withdraw", "grace_hours": "0"}
MADE_HERE = {"standard": {}, "okta": {}, "bamboohr": {}, "hibob": {"api_key": "user:another"}}

WIDTHS = """() => [...document.querySelectorAll("main select")].filter((one) => one.offsetParent).map((one) => {
  const copy = one.cloneNode(true);
  copy.style.cssText = "position: absolute; width: auto; min-width: 0; max-width: none";
  one.after(copy);
  const needed = copy.offsetWidth, around = one.closest("form, .toolbar, details, section");
  copy.remove();
  const { paddingLeft, paddingRight } = getComputedStyle(around);
  return [one.name, one.offsetWidth, needed, around.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight)];
})"""
"""Of each select that is seen: its name, how wide it is, how wide all it says is, and how much room there is."""


def in_guides(*names: str) -> str:
    text = " ".join((GUIDES / f"{name}.md").read_text() for name in names)
    return " ".join(re.sub(r"[*`]", "", text).split()).lower()


def words_of(lines: tuple[str, ...]) -> list[str]:
    """What the other system calls its own."""
    return re.findall("“([^”]+)”", " ".join(lines))


@pytest.mark.parametrize("kind", hr_sources.KINDS)
def test_each_kind_of_source_has_a_few_lines_that_say_what_its_guide_says(kind: str) -> None:
    lines = source_steps.STEPS[kind]
    assert 3 <= len(lines) <= 5
    assert sum("{address}" in line for line in lines) == 1
    guide = in_guides(*{"standard": ("signed-webhook", "workday")}.get(kind, (kind,)))
    assert [word for word in words_of(lines) if word.lower() not in guide] == []


@pytest.mark.parametrize("name", source_steps.DIRECTORIES)
def test_each_directory_that_uses_scim_has_lines_that_say_what_its_guide_says(name: str) -> None:
    lines = source_steps.DIRECTORIES[name]
    assert sum("{address}" in line for line in lines) == 1
    assert [word for word in words_of(lines) if word.lower() not in in_guides(name)] == []


@pytest.mark.parametrize(("kind", "given"), MADE_HERE.items())
def test_a_button_copies_what_to_send_to_the_administrator_without_the_secret(
    client: TestClient, token: MakeToken, kind: str, given: dict[str, str]
) -> None:
    ada = Person(client, token("owner"))
    page = ada.get(str(ada.post(SOURCES, kind=kind, **FORM, **given).headers["location"]))
    secret = re.search(r'<pre class="secret"[^>]*>([^<]*)</pre>', page)
    assert secret
    copied = [html.unescape(one) for one in re.findall(r'data-copy="(1\. [^"]*)"', page)]
    assert len(copied) == 1, "it stands in the box of the secret alone while that is shown"
    assert f"http://testserver{hr_sources.KINDS[kind]}/payroll" in copied[0]
    assert secret[1] not in copied[0]
    lines, _, example = copied[0].partition("\nFor example:\n")
    assert len(lines.splitlines()) == len(source_steps.STEPS[kind])
    assert (json.loads(example)["type"] if example else "") == ("user.deactivated" if kind == "standard" else "")


def test_a_public_address_that_is_typed_stands_in_all_that_is_copied(sign_in: SignIn) -> None:
    page = connected(sign_in, "okta")
    field = page.get_by_label("Public address, for the lines to send")
    near = page.url.partition("/console")[0] + "/hooks/okta/payroll"
    lines = page.get_by_role("button", name="Copy all of it, to send")
    expect(page.get_by_text(near).first).to_be_visible()
    for typed, shown in (
        ("https://withdrawals.example.com/any", "https://withdrawals.example.com/hooks/okta/payroll"),
        ("withdrawals", near),
        ("", near),
    ):
        field.fill(typed)
        expect(lines).to_have_attribute("data-copy", re.compile(re.escape(shown)))
        expect(page.locator("ol.plain").first).to_contain_text(shown)


def test_the_lines_are_open_until_the_first_event_and_folded_away_after_it(
    client: TestClient, token: MakeToken, world: World
) -> None:
    ada = Person(client, token("owner"))
    here = str(ada.post(SOURCES, kind="okta", **FORM).headers["location"])
    ada.get(here)
    opened = re.compile(r"<details class=\"more\" open><summary>For the administrator of Okta</summary>")
    assert opened.search(ada.get(here))
    world.run("UPDATE withdrawals.sources SET last_event_at = now()")
    page = ada.get(here)
    assert not opened.search(page)
    assert "For the administrator of Okta</summary>" in page


def test_the_form_says_when_a_directory_takes_scim_and_what_to_do_in_it(client: TestClient, token: MakeToken) -> None:
    page = Person(client, token("owner")).get(SOURCES)
    assert "For the administrator of Microsoft Entra ID" in page
    assert "http://testserver/scim/v2" in page
    assert page.index(">Connect</button>") < page.index("Take SCIM for Microsoft Entra ID")


def test_an_owner_reads_little_before_connecting_and_sees_only_the_fields_that_are_needed(sign_in: SignIn) -> None:
    page = sign_in("owner", at=SOURCES)
    form = page.locator("form.by-kind")
    read = form.evaluate(
        "form => { const kept = [...form.querySelectorAll('select')].map((one) => { const [here, next] = "
        "[one.parentNode, one.nextSibling]; one.remove(); return () => here.insertBefore(one, next); }); "
        "const read = form.innerText; kept.forEach((back) => back()); return read; }"
    )
    assert len(read.split()) <= 46, read
    secret = page.get_by_label("Secret of the HR system")
    page.get_by_label("Which HR system").select_option("okta")
    expect(page.get_by_text("If Okta should also create learners")).to_be_visible()
    expect(secret).to_be_hidden()
    page.get_by_label("Which HR system").select_option("security-events")
    expect(secret).to_be_visible()
    expect(page.get_by_text("If Okta should also create learners")).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 390])
def test_selects_are_as_wide_as_what_they_say_where_there_is_room(sign_in: SignIn, world: World, width: int) -> None:
    assert world.enrolment("anna") == 1
    page = sign_in("owner", at=SOURCES, viewport={"width": width, "height": 900})
    places = ("jobs", "jobs/release", "dead-letters", "reports", "reports/schedules", "enrolments/1")
    for place in (*places, *(f"settings/{name}" for name in ("sources", "policies", "tokens"))):
        page.goto(f"{page.url.partition('/console')[0]}/console/{place}")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        selects = page.evaluate(WIDTHS)
        assert selects, place
        cut = [name for name, wide, needed, room in selects if wide < needed and wide < room]
        assert cut == [], (place, selects)
        if width == 1280:
            assert [name for name, wide, needed, _ in selects if wide < needed] == [], place
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place


def test_an_event_about_an_id_that_nobody_has_says_so(
    client: TestClient, token: MakeToken, world: World, db: Database, environment: Settings
) -> None:
    world.enrolment("anna")
    ada = Person(client, token("owner"))
    here = str(ada.post(SOURCES, kind="standard", **(FORM | {"on_deactivate": "hold"})).headers["location"])
    secret = re.search(r'<pre class="secret"[^>]*>([^<]*)</pre>', ada.get(here))
    assert secret
    for person in ("anna", "nobody-here"):
        body = json.dumps(event(person)).encode()
        sent = signed(secret[1], body, key=f"about-{person}")
        assert client.post("/hooks/hr/payroll", content=body, headers=sent).status_code == 202
    apply_inbox(db, environment)
    assert world.one("SELECT count(*) = 2 FROM withdrawals.receipts WHERE job_id IS NOT NULL")
    rows = ada.get(here).split("<tr>")
    said = [("about-nobody-here" in row, "about-anna" in row) for row in rows if "Nobody here has this id." in row]
    assert said == [(True, False)]


def test_the_list_of_events_renews_itself_after_the_first_one_too(sign_in: SignIn, console: str, world: World) -> None:
    page = connected(sign_in, "standard")
    secret = page.locator("pre.secret").inner_text()

    def send(person: str) -> None:
        body = json.dumps(event(person)).encode()
        kind = {"content-type": "application/json"}
        sent = {**kind, **signed(secret, body, key=f"about-{person}")}
        assert page.request.post(f"{console}/hooks/hr/payroll", data=body, headers=sent).status == 202

    page.reload()
    page.locator("h2.title").select_text()  # what is selected elsewhere on the page holds nothing up
    for person in ("anna", "ben", "cleo"):
        send(person)
        expect(page.get_by_text(f"about-{person}")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Connected")
    expect(page.locator("#heard")).not_to_have_text("Never")


def test_without_javascript_a_link_renews_the_list(client: TestClient, token: MakeToken, world: World) -> None:
    ada = Person(client, token("owner"))
    here = str(ada.post(SOURCES, kind="okta", **FORM).headers["location"])
    ada.get(here)
    world.run("UPDATE withdrawals.sources SET last_event_at = now()")
    page = ada.get(here)
    assert f'<noscript><p><a href="{here}">Refresh</a></p></noscript>' in page
    assert 'data-again="3000"' in page
    world.run("UPDATE withdrawals.sources SET created_at = now() - interval '2 hours'")
    assert 'data-again="15000"' in ada.get(here), "nobody waits for its events any more"
