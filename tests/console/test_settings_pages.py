"""The pages of the settings: tokens and HR sources, each with its history; secrets are shown once and stay secret."""

import json
import re

import pytest
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, field_of
from tests.support.web import event, signed
from tests.world import World, eventually
from worker.access import tokens
from worker.database import Database

TOKENS = "/console/settings/tokens"
SOURCES = "/console/settings/sources"


def secret_on(page: str) -> str:
    found = re.search(r'<pre class="secret"[^>]*>([^<]*)</pre>', page)
    assert found, page
    return found[1]


def written(world: World) -> str:
    """All that the audit has, as text."""
    return str(world.run("SELECT coalesce(json_agg(a), '[]')::text FROM withdrawals.audit a")[0][0])


def test_a_token_is_made_shown_once_and_revoked_on_its_page(
    client: TestClient, token: MakeToken, db: Database, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {"ada": token("owner", name="ada"), "bea": token("approver", name="bea")}
    bea = Person(client, secrets["bea"])
    bea.get(TOKENS, 403)
    bea.post(TOKENS, 403, name="x", role="owner")
    assert f'href="{TOKENS}"' not in bea.get(SOURCES), "what a role may not see is not offered"
    ada = Person(client, secrets["ada"])
    assert "choose one" in ada.post(TOKENS, 422, name="sync", role="").text
    wrong = ada.post(TOKENS, 422, name=" ", role="producer")
    assert 'id="wrong-name"' in wrong.text, "the error stands at its field"
    assert "exists. Revoke it first" in ada.post(TOKENS, 409, name="ADA", role="viewer").text
    answer = ada.post(TOKENS, name="sync <b>", role="producer")
    assert answer.headers["location"] == TOKENS, "the secret is in no address"
    page = ada.get(TOKENS)
    secret = secret_on(page)
    made = tokens.authenticate(db, secret)
    assert made is not None
    assert (made.name, made.role, made.created_by) == ("sync <b>", "producer", "token:ada")
    for text in ("<strong>token:ada</strong> made the token sync &lt;b&gt; with the role producer", "sync &lt;b&gt;"):
        assert text in page
    again = ada.get(TOKENS)
    assert secret not in again
    assert secret.rsplit("_", 1)[1] not in written(world) + caplog.text
    ada.post(f"{TOKENS}/{made.id}/revoke")
    page = ada.get(TOKENS)
    assert "Token sync &lt;b&gt; is revoked." in page
    assert "revoked the token sync &lt;b&gt;" in page
    assert tokens.authenticate(db, secret) is None


def test_a_new_secret_is_shown_to_the_session_that_made_it(client: TestClient, token: MakeToken, world: World) -> None:
    """The sealed cookie of one session says nothing in another."""
    secrets = {name: token("owner", name=name) for name in ("ada", "eve")}
    Person(client, secrets["ada"]).post(TOKENS, name="sync", role="producer")
    sealed = client.cookies["withdrawals_new_secret"]
    eve = Person(client, secrets["eve"])
    client.cookies.set("withdrawals_new_secret", sealed)
    assert "It is shown only this once." not in eve.get(TOKENS)


def test_an_hr_system_is_connected_heard_tested_and_rotated_on_its_page(
    client: TestClient, token: MakeToken, world: World
) -> None:
    secrets = {name: token(role, name=name) for name, role in (("ada", "owner"), ("ola", "operator"))}
    ada = Person(client, secrets["ada"])
    form = {"name": "workday", "kind": "standard", "on_deactivate": "hold", "grace_hours": "24"}
    for field, value in (("name", "Work Day"), ("kind", "fax"), ("grace_hours", "soon"), ("secret", "short")):
        refused = ada.post(SOURCES, 422, **{**form, field: value})
        assert f'id="wrong-{field}"' in refused.text, field
        assert "short" not in refused.text, "a secret that was typed is not sent back"
    page = ada.get(str(ada.post(SOURCES, **form).headers["location"]))
    first, here = secret_on(page), f"{SOURCES}/{world.one('SELECT id FROM withdrawals.sources')}"
    assert "http://testserver/hooks/hr/workday" in page
    assert "Never heard" in page
    assert "exists. Rotate its secret" in ada.post(SOURCES, 409, **form).text

    body = json.dumps(event()).encode()
    assert client.post("/hooks/hr/workday", content=body, headers=signed(first, body)).status_code == 202
    eventually(lambda: world.one("SELECT last_event_at FROM withdrawals.sources"))
    ola = Person(client, secrets["ola"])
    ola.post(f"{here}/test")
    page = ola.get(here)
    for text in ("Connected", "user.deactivated", "A test from this page", "Waits to be applied", "tested workday"):
        assert text in page
    assert "Replace the secret</button>" not in page
    assert "An owner can replace the secret" in page
    ola.post(f"{here}/rotate", 403)

    ada = Person(client, secrets["ada"])
    old = {"seen": field_of(ada.get(here), "seen"), "keep_hours": "1"}
    assert 'id="wrong-keep_hours"' in ada.post(f"{here}/rotate", 422, **{**old, "keep_hours": "ever"}).text
    ada.post(f"{here}/rotate", **old)
    second = secret_on(ada.get(here))
    assert "was replaced meanwhile" in ada.post(f"{here}/rotate", 409, **old).text, "the form is sent once"
    for number, secret in enumerate((first, second)):
        body = json.dumps(event(f"p{number}")).encode()
        assert client.post("/hooks/hr/workday", content=body, headers=signed(secret, body)).status_code == 202
    assert first not in (trace := written(world))
    assert second not in trace
    ada.post(f"{here}/disable")
    page = ada.get(here)
    assert "Disabled" in page
    assert "Send a test event" not in page
    assert "disabled workday" in page
    body = json.dumps(event("late")).encode()
    assert client.post("/hooks/hr/workday", content=body, headers=signed(second, body)).status_code == 401
    assert ada.get(f"{SOURCES}/999", 404)
