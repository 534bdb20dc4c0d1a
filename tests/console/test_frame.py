"""The frame of every page: the theme, the menu of a phone, and what a script adds; each without a script as well."""

from playwright.sync_api import Page, expect
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, SignIn
from tests.support.load import FULL
from tests.world import World

DARK_PAGE, LIGHT_PAGE = "rgb(15, 18, 23)", "rgb(246, 247, 249)"


_WATCH_SHIFTS = """
    window.moved = 0;
    new PerformanceObserver(list => list.getEntries().forEach(one => window.moved += one.value))
        .observe({type: "layout-shift", buffered: true});
"""


def _colour(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_is_switched_and_kept_with_and_without_javascript(sign_in: SignIn, world: World) -> None:
    for js in (True, False) if FULL else (True,):
        page = sign_in("viewer", js=js, color_scheme="light")
        assert _colour(page) == LIGHT_PAGE
        page.get_by_role("button", name="Dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert _colour(page) == DARK_PAGE
        page.goto("/console/jobs")
        assert _colour(page) == DARK_PAGE
        expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="As the device").click()
        expect(page.locator("html[data-theme]")).to_have_count(0)
        assert _colour(page) == LIGHT_PAGE
        assert page.url.endswith("/console/jobs")


def test_the_server_writes_the_theme_into_the_page_and_takes_no_other(client: TestClient, token: MakeToken) -> None:
    person = Person(client, token("viewer"))
    chosen = person.post("/console/theme", 303, theme="dark", back="//elsewhere.example")
    assert chosen.headers["location"] == "/console"
    assert '<html lang="en" data-theme="dark">' in person.get("/console/jobs")
    person.post("/console/theme", 422, theme="<b>")
    client.cookies.delete("withdrawals_theme")
    client.cookies.set("withdrawals_theme", '"><script>', path="/console")
    assert '<html lang="en">' in person.get("/console/jobs")


def test_what_only_a_script_can_do_is_not_offered_without_one(sign_in: SignIn, world: World) -> None:
    world.enrolment("anna")
    page = sign_in("viewer", js=False, at="/console/people?learner=anna")
    expect(page.get_by_role("button", name="Copy the external id")).to_have_count(0)
    page = sign_in("viewer", permissions=["clipboard-read", "clipboard-write"])
    page.add_init_script(_WATCH_SHIFTS)
    page.add_init_script("setTimeout = () => 0")  # a message goes away after a while
    page.goto("/console/people?learner=anna")
    page.get_by_role("button", name="Copy the external id").wait_for()
    assert page.evaluate("window.moved") == 0, "what the script adds moves nothing"
    page.get_by_role("button", name="Copy the external id").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "anna"


def test_a_phone_opens_the_menu_without_a_script_and_a_page_is_light(sign_in: SignIn, world: World) -> None:
    page = sign_in("viewer", js=False, viewport={"width": 390, "height": 800})
    places = page.get_by_role("navigation", name="Main")
    expect(places).to_be_hidden()
    page.get_by_role("button", name="Menu").press("Enter")
    places.get_by_role("link", name="Needs attention").click()
    page.get_by_role("heading", name="Needs attention", exact=True).wait_for()
    expect(places).to_be_hidden()
    loaded: list[int] = []
    page.on("response", lambda answer: loaded.append(len(answer.body())))
    page.goto("/console/jobs")
    assert len(loaded) <= 7, "requests of a page"
    assert sum(loaded) < 90_000, "bytes of a page, with all that browsers keep of it"
