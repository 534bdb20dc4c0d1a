"""Sessions of people: listed, ended by themselves, by an owner, by idleness and by the provider."""

import re
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.sign_on.conftest import Console
from tests.support.commandline import done
from tests.support.providers import Forger, forging, sign_in_at
from tests.world import World, eventually
from worker.access import last_used, memory, sessions
from worker.database import Database
from worker.web.console.view import COOKIE

LOGOUT = "/console/back-channel-logout"


def live(client: TestClient) -> bool:
    """Whether a browser is signed in."""
    memory.forget_all()
    return bool(client.get("/console").status_code == 200)


def uses_are_written() -> None:
    """Until the thread that writes them has nothing left, and overtakes nothing that is written afterwards."""
    eventually(lambda: all(one.writer is None for one in last_used._behind._of.values()), what="every use is written")


def form(client: TestClient, path: str, **data: str) -> Any:
    """Send a form of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/console/sessions").text)
    assert found
    return client.post(path, data={"csrf": found[1], **data})


def sessions_of(world: World, subject: str) -> list[int]:
    """The ids of somebody's sessions."""
    rows = world.run(
        "SELECT s.id FROM withdrawals.sessions s JOIN withdrawals.members m ON m.id = s.member_id"
        " WHERE m.subject = :s ORDER BY 1",
        s=subject,
    )
    return [row.id for row in rows]


def test_sessions_are_listed_and_ended_by_their_person_and_by_an_owner(
    console: Console, forger: Forger, world: World
) -> None:
    ada, phone, bob = (console(forger.issuer) for _ in range(3))
    sign_in_at(ada, forger, groups=["bosses"])
    sign_in_at(phone, forger, groups=["bosses"])
    sign_in_at(bob, forger, sub="bob", name="Bob", sid="b-1")
    (of_bob,) = sessions_of(world, "bob")
    mine = sessions_of(world, "ada")
    page = bob.get("/console/sessions").text
    assert f"/console/sessions/{of_bob}/end" in page
    assert f"/console/sessions/{mine[0]}/end" not in page, "a viewer sees only their own"
    assert form(bob, f"/console/sessions/{mine[0]}/end").status_code == 404
    assert all(f"/console/sessions/{id_}/end" in ada.get("/console/sessions").text for id_ in (*mine, of_bob))
    assert form(ada, "/console/sessions/end-others").status_code == 303
    assert (live(ada), live(phone), live(bob)) == (True, False, True)
    assert form(ada, f"/console/sessions/{of_bob}/end").status_code == 303
    assert not live(bob)
    assert world.one("SELECT detail->>'of' FROM withdrawals.audit ORDER BY id DESC LIMIT 1").startswith("person:Bob#")
    sign_in_at(bob, forger, sub="bob", name="Bob")
    listed = done("sessions", "list")["items"]
    assert [one["name"] for one in listed] == ["Bob", "Ada Lovelace"]
    assert done("sessions", "end", listed[0]["id"], "--as", "mia")["name"] == "Bob"
    assert not live(bob)
    assert [one["name"] for one in done("members", "list")["items"]] == ["Ada Lovelace", "Bob"]


def test_a_session_ends_when_nobody_uses_it(
    client: TestClient, forger: Forger, world: World, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_used, "EVERY", 0.0)
    sign_in_at(client, forger)
    assert live(client)
    uses_are_written()
    world.run("UPDATE withdrawals.sessions SET last_used_at = now() - interval '59 minutes'")
    assert live(client)
    uses_are_written()
    assert world.one("SELECT last_used_at > now() - interval '5 minutes' FROM withdrawals.sessions")
    world.run("UPDATE withdrawals.sessions SET last_used_at = now() - interval '61 minutes'")
    assert not live(client)
    sessions.delete_expired(db)
    assert world.one("SELECT count(*) FROM withdrawals.sessions") == 0


def test_the_provider_ends_sessions(console: Console, forger: Forger, world: World) -> None:
    ada, phone, bob = (console(forger.issuer) for _ in range(3))
    sign_in_at(ada, forger)
    sign_in_at(phone, forger, sid="s-2")
    sign_in_at(bob, forger, sub="bob", name="Bob", sid="b-1")

    def end(token: str) -> int:
        return int(bob.post(LOGOUT, data={"logout_token": token}).status_code)

    right, now = forger.logout_token(), int(time.time())
    wrong: list[dict[str, Any]] = [
        *({"aud": "another"}, {"iss": "https://else.example"}, {"events": {}}, {"events": None}, {"events": []}),
        *({"nonce": "n"}, {"iat": now - 3600}, {"iat": now + 3600}, {"iat": None}, {"exp": now - 3600}),
        *({"jti": None}, {"sub": None, "sid": None}, {"sub": 1}),
    ]
    taken: list[Any] = [changed for changed in wrong if end(forger.logout_token(**changed)) != 400]
    taken += [token for token in ("", "x", forger.id_token()) if end(token) != 400]
    assert taken == []
    assert (live(ada), live(phone), live(bob)) == (True, True, True)
    assert end(right) == 200
    assert (live(ada), live(phone), live(bob)) == (False, True, True), "of the session that it names alone"
    sign_in_at(ada, forger)
    assert end(right) == 400, "a token that was sent before"
    assert live(ada)
    assert end(forger.logout_token(sid=None)) == 200
    assert (live(ada), live(phone), live(bob)) == (False, False, True), "all of the person"
    assert end(forger.logout_token(sub=None, sid="b-1")) == 200
    assert not live(bob)


def test_who_signs_out_can_sign_out_at_the_provider_as_well(client: TestClient, forger: Forger) -> None:
    sign_in_at(client, forger)
    cookie = client.cookies[COOKIE]
    answer = form(client, "/console/sign-out")
    assert answer.headers["location"] == "/console/signed-out"
    page = client.get("/console/signed-out").text
    assert f"{forger.issuer}/end?client_id=withdrawals&amp;post_logout_redirect_uri=" in page
    answer = client.get("/console", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert answer.headers["location"] == "/console/sign-in"


def test_a_session_ends_with_the_way_in_by_which_it_was_opened(
    console: Console, forger: Forger, client: TestClient
) -> None:
    """Whoever takes a provider out of the settings, such as one that was broken into, shuts its sessions out too."""
    sign_in_at(client, forger)
    cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    with forging() as another:
        others = [console(another.issuer), console("", roles="")]
        assert [one.get("/console", headers=cookie).headers.get("location") for one in others] == [
            "/console/sign-in"
        ] * 2
    assert console(forger.issuer).get("/console", headers=cookie).status_code == 200
