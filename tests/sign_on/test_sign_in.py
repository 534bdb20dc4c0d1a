"""Sign-in with a provider: who comes in, with which role, and what is not let through."""

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.sign_on.conftest import Console
from tests.support.providers import (
    Forger,
    begin,
    come_back,
    new_key,
    sign_in_at,
    signed_with_the_public_key,
    unsigned,
)
from tests.world import World
from worker.sign_on import kept
from worker.web.console.view import COOKIE


def refused(answer: Any, status: int = 400) -> bool:
    """Whether a sign-in was refused: no session, and no page beyond."""
    assert COOKIE not in answer.cookies
    return bool(answer.status_code == status)


def test_a_person_signs_in_with_the_role_of_their_groups(client: TestClient, forger: Forger, world: World) -> None:
    assert "Sign in with 127.0.0.1" in client.get("/console/sign-in").text
    begin(client, forger, path="/console/jobs?state=held")
    asked = {"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge"}
    assert asked <= forger.begun.keys()
    assert forger.begun["code_challenge_method"] == "S256"
    forger.claims = {"groups": ["staff", "bosses", "else"]}
    answer = come_back(client, forger)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/jobs?state=held")
    assert "Ada Lovelace (owner)" in client.get("/console").text
    member = world.one("SELECT id FROM withdrawals.members WHERE subject = 'ada'")
    assert world.one("SELECT actor FROM withdrawals.audit") == f"person:Ada Lovelace#{member}"
    sign_in_at(client, forger, name="Ada King")
    assert "Ada King (viewer)" in client.get("/console").text, "name and role are those of the last sign-in"
    assert world.one("SELECT count(*) FROM withdrawals.members") == 1


def test_without_a_group_that_has_a_role_nobody_comes_in(client: TestClient, forger: Forger) -> None:
    answer = sign_in_at(client, forger, groups=["secret-project", "other"])
    assert refused(answer, 403)
    assert "2 groups" in answer.text
    assert "secret-project" not in answer.text
    assert refused(sign_in_at(client, forger, groups={"staff": True}), 403), "not a list of groups"


def test_somebody_with_roles_in_two_organisations_chooses_one(client: TestClient, forger: Forger, world: World) -> None:
    other = world.organisation("Other")
    third = world.organisation("Third")
    page = sign_in_at(client, forger)
    assert page.status_code == 200
    assert "Acme (viewer)" in page.text
    assert "Other (viewer)" in page.text
    kept = dict(client.cookies)
    answer = client.post("/console/sign-in/organisation", data={"organisation": str(other)})
    assert answer.status_code == 303
    assert 'title="Other"' in client.get("/console").text
    assert refused(client.post("/console/sign-in/organisation", data={"organisation": str(other)})), "chosen once"
    client.cookies.update(kept)
    assert refused(client.post("/console/sign-in/organisation", data={"organisation": str(third)})), "not a choice"
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/console/sign-in/organisation", data={"organisation": "1"}, headers=cross).status_code == 403


WRONG: list[dict[str, Any]] = [
    {"nonce": "another"},
    {"nonce": None},
    {"iss": "https://else.example"},
    {"aud": "another"},
    {"aud": ["withdrawals", "another"]},
    {"azp": "another"},
    {"exp": int(time.time()) - 3600},
    {"iat": int(time.time()) + 3600},
    {"exp": None},
    {"sub": None},
    {"sub": ""},
    {"sub": ["ada"]},
    {"sub": "a\x00da"},
    {"at_hash": "wrong"},
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
]


def test_an_id_token_that_is_wrong_signs_nobody_in(client: TestClient, forger: Forger) -> None:
    let_in = [claims for claims in WRONG if not refused(sign_in_at(client, forger, **claims))]
    assert let_in == []
    right = {"aud": ["withdrawals", "another"], "azp": "withdrawals"}
    assert sign_in_at(client, forger, **right).status_code == 303, "for several, and issued to this service"


def test_an_id_token_must_be_signed_by_a_key_of_the_provider(client: TestClient, forger: Forger) -> None:
    forger.published, stranger = [forger.key], new_key()
    for sign in (unsigned, signed_with_the_public_key(forger), lambda _: "a.b.c", lambda _: "é", lambda _: ""):
        forger.sign = sign
        assert refused(sign_in_at(client, forger))
    forger.sign, forger.key = None, stranger
    assert refused(sign_in_at(client, forger)), "a key that is not published"
    forger.published = [stranger]
    assert sign_in_at(client, forger).status_code == 303, "a new key of the provider is found"


def test_what_comes_back_must_belong_to_this_browser(console: Console, forger: Forger) -> None:
    victim, attacker = console(forger.issuer), console(forger.issuer)
    begin(attacker, forger)
    assert refused(come_back(victim, forger)), "login CSRF: the attacker's code in a browser that began nothing"
    theirs = dict(forger.begun)
    begin(victim, forger)
    assert refused(come_back(victim, forger, state=theirs["state"])), "the state of another browser"
    begin(victim, forger)
    assert refused(come_back(victim, forger, iss="https://else.example")), "mix-up: another provider answers"
    begin(victim, forger)
    assert refused(come_back(victim, forger, code="", error="access_denied"))
    assert refused(come_back(victim, forger)), "one answer to each sign-in"
    assert sign_in_at(victim, forger).status_code == 303


def test_a_sign_in_opens_a_new_session_and_ends_the_one_before(client: TestClient, forger: Forger) -> None:
    client.cookies.set(COOKIE, "planted-by-somebody", domain="localhost.local", path="/console")
    sign_in_at(client, forger)
    first = client.cookies[COOKIE]
    assert first != "planted-by-somebody"
    sign_in_at(client, forger)
    assert client.cookies[COOKIE] != first
    answer = client.get("/console", headers={"Cookie": f"{COOKIE}={first}"})
    assert answer.headers["location"] == "/console/sign-in"


def test_a_sign_in_leads_to_no_other_site(client: TestClient, forger: Forger) -> None:
    for wanted in ("//evil.example", "https://evil.example/console", "/console\\evil", "/consolez"):
        begin(client, forger, path=wanted)
        assert come_back(client, forger).headers["location"] == "/console", wanted


def test_a_thin_id_token_is_completed_by_the_userinfo(client: TestClient, forger: Forger) -> None:
    forger.userinfo = {"sub": "ada", "groups": ["bosses"], "name": "Ada L."}
    assert sign_in_at(client, forger, groups=None, name=None).status_code == 303
    assert "Ada L. (owner)" in client.get("/console").text
    forger.userinfo["sub"] = "eve"
    assert refused(sign_in_at(client, forger, groups=None))


def test_roles_come_from_any_claim_but_an_unconfirmed_address(console: Console, forger: Forger) -> None:
    nested = console(forger.issuer, oidc_groups_claim="realm_access.roles")
    assert sign_in_at(nested, forger, groups=None, realm_access={"roles": ["staff"]}).status_code == 303
    domain = console(forger.issuer, oidc_groups_claim="hd", roles="acme.example=operator@Acme")
    assert sign_in_at(domain, forger, hd="acme.example").status_code == 303
    address = console(forger.issuer, oidc_groups_claim="email", roles="ada@acme.example=operator@Acme")
    assert refused(sign_in_at(address, forger), 403)
    assert sign_in_at(address, forger, email_verified=True).status_code == 303


def test_while_the_provider_is_down_tokens_still_work(console: Console, forger: Forger) -> None:
    forger.down = True
    client = console(forger.issuer)
    answer = client.get("/console/sign-in/provider")
    assert answer.status_code == 503
    assert "cannot be reached" in answer.text
    assert 'name="token"' in answer.text
    forger.down = False
    for harm in ({"issuer": "https://else.example"}, {"token_endpoint": "http://10.0.0.1/token"}, {"jwks_uri": None}):
        forger.metadata = harm
        assert client.get("/console/sign-in/provider").status_code == 503, harm
    forger.metadata = {}
    assert sign_in_at(client, forger).status_code == 303
    forger.metadata = {"jwks_uri": "https://10.0.0.1/keys"}  # a private address of another host is not asked
    assert refused(sign_in_at(console(forger.issuer), forger), 503)
    forger.down = True
    assert client.get("/console/sign-in/provider").status_code == 303, "what is known goes on counting"


def test_a_provider_that_is_down_is_not_asked_by_every_request(
    client: TestClient, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FAILED_SECONDS", 3600.0)
    forger.down = True
    assert [client.get("/console/sign-in/provider").status_code for _ in range(3)] == [503, 503, 503]
    assert forger.asked == ["/.well-known/openid-configuration"]


def test_people_can_be_kept_from_signing_in_with_tokens(console: Console, forger: Forger) -> None:
    client = console(forger.issuer, console_tokens=False)
    assert 'name="token"' not in client.get("/console/sign-in").text
    assert client.post("/console/sign-in", data={"token": "wdt_x"}).status_code == 403
    assert sign_in_at(client, forger).status_code == 303
    assert client.get("/console").status_code == 200
