"""Sessions of the console: opened with a token, held by a cookie, ended in time."""

import re

from starlette.testclient import TestClient

from tests.support.console import MakeToken, SignIn, accessible, says
from tests.world import World
from worker.access import memory, tokens
from worker.database import Database
from worker.ledger import sessions as ledger
from worker.web.console.render import environment
from worker.web.console.view import COOKIE


def _signed_in(client: TestClient, secret: str) -> str:
    """Sign in; the session's own field for forms."""
    answer = client.post("/console/sign-in", data={"token": secret})
    assert answer.status_code == 303, answer.text
    page = client.get("/console")
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return found[1]


def test_a_person_signs_in_works_and_signs_out(sign_in: SignIn, token: MakeToken) -> None:
    page = sign_in("viewer")
    page.context.clear_cookies()
    page.goto("/console/sign-in")
    page.get_by_label("Token").fill(token("operator", name="mia"))
    page.get_by_role("button", name="Sign in").click()
    says(page, "mia (operator)")
    cookie = next(item for item in page.context.cookies() if item["name"] == COOKIE)
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    accessible(page)
    page.context.add_cookies([{"name": COOKIE, "value": cookie["value"], "url": page.url}])
    page.goto("/console")
    assert page.url.endswith("/console/sign-in"), "the session is over on the server too"


def test_the_page_for_an_unknown_address_has_a_way_on(sign_in: SignIn) -> None:
    page = sign_in("viewer", at="/console/nothing-here")
    says(page, "Page not found.")
    accessible(page)
    page.get_by_role("link", name="Series").click()
    page.get_by_role("heading", name="Series library").wait_for()


def test_a_session_that_ends_leads_to_the_sign_in_and_back(sign_in: SignIn, token: MakeToken, world: World) -> None:
    page = sign_in("viewer", js=False)
    world.run("UPDATE withdrawals.sessions SET expires_at = now()")
    memory.forget_all()
    page.goto("/console?q=rust")
    page.get_by_label("Token").fill(token("viewer"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    assert page.url.endswith("/console?q=rust")


def test_a_revoked_token_ends_its_sessions(client: TestClient, db: Database, world: World, token: MakeToken) -> None:
    _signed_in(client, token("viewer", name="gone"))
    assert client.get("/console").status_code == 200
    token_id = world.one("SELECT id FROM withdrawals.tokens WHERE name = 'gone'")
    tokens.revoke(db, organisation_id=world.organisation_id, token_id=token_id, actor="test:approver")
    answer = client.get("/console")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")


def test_a_wrong_token_is_refused_and_opens_no_session(client: TestClient, token: MakeToken, world: World) -> None:
    for wrong in ("", "wdt_nonsense", token("viewer")[:-1] + "!"):
        answer = client.post("/console/sign-in", data={"token": wrong})
        assert answer.status_code == 401
        assert "Token not recognised" in answer.text
        assert COOKIE not in answer.cookies
    answer = client.post("/console/sign-in", data={"token": token("producer")})
    assert answer.status_code == 403
    assert "needs the role viewer" in answer.text
    assert world.one("SELECT count(*) FROM withdrawals.sessions") == 0


def test_nobody_is_sent_to_another_site(client: TestClient, token: MakeToken) -> None:
    for wanted, where in {
        "//evil.example/console": "/console",
        "https://evil.example": "/console",
        "/console\\evil": "/console",
        "/consolez": "/console",
        "/console/jobs?state=held": "/console/jobs?state=held",
    }.items():
        answer = client.post("/console/sign-in", data={"token": token("viewer"), "next": wanted})
        assert answer.headers["location"] == where
    answer = client.post("/console/sign-in", data={"token": token("viewer")}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    for origin, status in {"http://evil.example": 403, "null": 403, "http://testserver": 303}.items():
        answer = client.post("/console/sign-in", data={"token": token("viewer")}, headers={"Origin": origin})
        assert answer.status_code == status, origin


def test_a_form_of_another_session_is_refused(client: TestClient, token: MakeToken, world: World) -> None:
    csrf = _signed_in(client, token("viewer"))
    other = _signed_in(client, token("viewer"))
    for wrong in (csrf, "", "é"):
        answer = client.post("/console/sign-out", data={"csrf": wrong})
        assert answer.status_code == 403
        assert "another sign-in" in answer.text
    assert client.post("/console/sign-out", data={"csrf": other}).headers["location"] == "/console/sign-in"


def test_pages_have_security_headers_and_no_inline_code(client: TestClient, token: MakeToken) -> None:
    _signed_in(client, token("viewer"))
    page = client.get("/console")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    for template in environment().list_templates():
        source, _, _ = environment().loader.get_source(environment(), template)  # type: ignore[union-attr]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|\|\s*safe", source), template
    kept = client.get(re.search(r'href="(/console/static/console.css[^"]*)"', page.text)[1])  # type: ignore[index]
    assert "immutable" in kept.headers["cache-control"]
    assert client.get("/console/static/console.css?v=another").headers["cache-control"] == "no-store"
    assert client.get("/healthz").headers.get("content-security-policy") is None


def test_an_unknown_address_gets_a_page_and_not_a_json_problem(client: TestClient, token: MakeToken) -> None:
    _signed_in(client, token("viewer"))
    answer = client.get("/console/nothing-here")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert client.get("/console/static/../view.py").status_code == 404


def test_expired_sessions_are_deleted(client: TestClient, db: Database, world: World, token: MakeToken) -> None:
    _signed_in(client, token("viewer"))
    _signed_in(client, token("viewer"))
    world.run("UPDATE withdrawals.sessions SET expires_at = now() - interval '1 s' WHERE token_id = 1")
    memory.forget_all()
    with db.begin() as connection:
        ledger.delete_expired(connection)
    assert world.one("SELECT count(*) FROM withdrawals.sessions") == 1
