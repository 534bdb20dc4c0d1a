"""`/hooks/security-events/{source}`: SETs (RFC 8417) of the SCIM profile (RFC 9967), pushed as RFC 8935 has it."""

import json
import time
from typing import Any

import httpx2
import pytest
from joserfc import jws
from joserfc.jwk import ECKey
from starlette.testclient import TestClient

from tests.support.incoming import results
from tests.support.web import apply_inbox_of
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.people import hr_sources
from worker.web.hooks.security_events import EARLY, EXPIRED, UNSAID

ISSUER, AUDIENCE = "https://scim.example.com", "https://scim.example.com/Feeds/98d52461fa5bbc879593b7754"
KEY = ECKey.generate_key("P-256", {"kid": "one"})
PROV = "urn:ietf:params:scim:event:prov:"
USER = {"format": "scim", "uri": "/Users/2b2f880af6674ac284bae9381673d462", "externalId": "jdoe"}


def document(key: ECKey = KEY, **more: Any) -> str:
    """A publisher's JWK set, with issuer and audience."""
    return json.dumps({"issuer": ISSUER, "audience": AUDIENCE, "keys": [key.as_dict(private=False)], **more}, indent=1)


@pytest.fixture(autouse=True)
def source(db: Database, environment: Settings, world: World) -> int:
    return hr_sources.create(
        db, environment, organisation_id=world.organisation_id, name="directory", kind="security-events",
        actor="test:owner", secret=document(),
    ).source.id  # fmt: skip


def claims(*names: str, at: float = 1458505044, jti: str | None = "6164f3bb", **more: Any) -> dict[str, Any]:
    """After figures 4 to 11 of RFC 9967."""
    events: dict[str, Any] = {PROV + name: {} for name in names}
    return {"iss": ISSUER, "aud": [AUDIENCE], "iat": at, "jti": jti, "sub_id": USER, "events": events, **more}


def send(
    client: TestClient, said: Any, *, key: ECKey = KEY, typ: str = "secevent+jwt", **header: Any
) -> httpx2.Response:
    """Push a token; what is stored is applied before the next one comes."""
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    token = jws.serialize_compact({"alg": "ES256", "typ": typ, "kid": key.kid, **header}, payload, key)
    answer = client.post(
        "/hooks/security-events/directory", content=token, headers={"content-type": "application/secevent+jwt"}
    )
    apply_inbox_of(client)
    return answer


def refused(answer: httpx2.Response) -> tuple[str, str]:
    """The code and the description of a refusal, which has the form of RFC 8935, section 2.3."""
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.headers["content-language"] == "en"
    assert answer.json().keys() == {"err", "description"}
    return answer.json()["err"], answer.json()["description"]


def test_a_user_is_deactivated_and_activated_in_the_order_of_what_happened(
    client: TestClient, world: World, db: Database, environment: Settings
) -> None:
    """Repeated, late and sent again as another token: each counts once, and the newest event decides."""
    enrolment = world.enrolment("jdoe")
    for _ in range(2):
        answer = send(client, claims("deactivate", txn="t1"))
        assert (answer.status_code, answer.content) == (202, b"")
    assert not world.active("jdoe")
    assert send(client, claims("activate", at=1458505050, jti="b", txn="t2")).status_code == 202
    assert world.active("jdoe")
    assert send(client, claims("deactivate", at=1458505060, jti="c", txn="t1")).status_code == 202
    assert world.active("jdoe"), "the same transaction in another token"
    assert send(client, claims("deactivate", at=1458505070, jti="d", toe=1458505049)).status_code == 202
    assert world.active("jdoe"), "it happened before, and was said late"
    assert len(results(world)) == 3
    decide_due(db, environment)
    assert world.status(enrolment) == "in_progress"
    assert send(client, claims("delete", at=1458505080, jti="e")).status_code == 202
    decide_due(db, environment)
    assert world.status(enrolment) == "withdrawn"
    assert_balanced(db)


DATA: dict[str, tuple[dict[str, Any], bool | None]] = {
    "patch:full": ({"data": {"Operations": [{"op": "replace", "path": "active", "value": False}]}}, False),
    "patch:full ": ({"data": {"Operations": [{"op": "Replace", "value": {"active": "False"}}]}}, False),
    "put:full": ({"data": {"userName": "jdoe", "active": False}}, False),
    "put:full ": ({"data": {"userName": "jdoe"}}, None),
    "create:full": ({"data": {"userName": "jdoe", "active": False}}, False),
    "patch:notice": ({"attributes": ["name.familyName"]}, None),
    "create:notice": ({"attributes": ["id", "name"]}, None),
}


def test_an_event_with_data_says_what_its_data_set(client: TestClient, world: World) -> None:
    for number, (name, (payload, active)) in enumerate(DATA.items()):
        person, before = f"user-{number}", len(results(world))
        world.enrolment(person)
        events = {PROV + name.strip(): payload}
        said = claims(events=events, jti=person, sub_id={**USER, "externalId": person})
        assert send(client, said).status_code == 202
        assert world.active(person) is (active is not False), name
        assert len(results(world)) - before == (active is not None), name


def test_what_does_not_say_whether_a_user_is_active_withdraws_nobody(client: TestClient, world: World) -> None:
    world.enrolment("jdoe")
    group = {"format": "scim", "uri": "/Groups/176f397e"}
    others = [
        claims(events={"urn:ietf:params:scim:event:feed:remove": {}}), claims("deactivate", sub_id=group),
        claims(events={"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}}),
    ]  # fmt: skip
    assert {send(client, one).status_code for one in others} == {202}
    notice = {PROV + "patch:notice": {"attributes": ["active"]}}
    unclear = [
        claims(events=notice), claims("activate", "deactivate", jti="b"),
        claims("deactivate", jti="c", sub_id={"format": "scim", "uri": "/Users/1"}),
        claims("deactivate", jti="d", at=int(time.time()) + 3600),
    ]  # fmt: skip
    said = [refused(send(client, one)) for one in unclear]
    assert {err for err, _ in said} == {"invalid_request"}
    assert said[0][1] == f"{UNSAID}. Support has a copy."
    assert "external_id" in said[2][1]
    assert world.active("jdoe")
    assert [letter.code for letter in world.letters()] == ["invalid_event"] * 4
    assert send(client, claims(events={**notice, PROV + "deactivate": {}}, jti="f")).status_code == 202
    assert not world.active("jdoe"), "the same token says to what"


def test_a_token_that_has_expired_or_is_not_valid_yet_changes_nothing(client: TestClient, world: World) -> None:
    """Support has a copy of each, once. In time, or as another token of the same transaction, it counts."""
    now = time.time()
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("jdoe", {"exp": now - 3600}, EXPIRED), ("mdoe", {"nbf": now + 3600}, EARLY),
    ]  # fmt: skip
    for person, untimely, fault in cases:
        world.enrolment(person)
        of: dict[str, Any] = {"txn": person, "sub_id": {**USER, "externalId": person, "uri": f"/Users/{person}"}}
        for _ in range(2):
            answer = refused(send(client, claims("deactivate", **of, **untimely)))
            assert answer == ("invalid_request", f"{fault}. Support has a copy.")
        assert world.active(person)
        assert send(client, claims("deactivate", jti="b", exp=now + 3600, nbf=now, **of)).status_code == 202
        assert not world.active(person)
    assert [letter.code for letter in world.letters()] == ["invalid_event"] * 2
    skewed = claims("activate", at=now, jti="c", exp=now - 60, nbf=now + 60)
    assert send(client, skewed).status_code == 202, "the clocks of two machines differ"
    for wrong in ("soon", True, 10**400):
        assert refused(send(client, claims("deactivate", jti="d", exp=wrong)))[1].startswith("exp: ")


def test_a_token_that_is_not_for_this_source_is_refused_with_its_code(client: TestClient, world: World) -> None:
    world.enrolment("jdoe")
    forger = ECKey.generate_key("P-256", {"kid": "one"})
    answers = [
        send(client, claims("deactivate"), key=forger),
        client.post(
            "/hooks/security-events/nobody",
            content=b"e30.e30.e30",
            headers={"content-type": "application/secevent+jwt"},
        ),
        client.post(
            "/hooks/security-events/directory", content=b"", headers={"content-type": "application/secevent+jwt"}
        ),
    ]
    assert {refused(answer)[0] for answer in answers} == {"authentication_failed"}
    assert len({answer.content for answer in answers}) == 1
    assert refused(send(client, claims("deactivate", iss="https://evil.example")))[0] == "invalid_issuer"
    assert refused(send(client, claims("deactivate", aud="https://other.example")))[0] == "invalid_audience"
    wrong = [
        b"not JSON", claims("deactivate", sub="jdoe"), claims("deactivate", jti=None), claims("deactivate", iat="now"),
        claims("deactivate", events={}), claims("deactivate", events={PROV + "deactivate": None}),
    ]  # fmt: skip
    assert {refused(send(client, one))[0] for one in wrong} == {"invalid_request"}
    assert refused(send(client, claims("deactivate"), typ="at+jwt"))[0] == "invalid_request"
    assert client.post("/hooks/security-events/directory", json={}).status_code == 415
    assert (world.active("jdoe"), results(world)) == (True, [])
    assert send(client, claims("deactivate", aud=AUDIENCE), typ="JWT").status_code == 202
    assert refused(send(client, claims("activate")))[1].startswith("The `jti` was used before")


def test_the_keys_of_before_are_accepted_while_new_ones_are_introduced(
    client: TestClient, world: World, db: Database, environment: Settings, source: int
) -> None:
    new = ECKey.generate_key("P-256", {"kid": "two"})
    given: dict[str, Any] = {"organisation_id": world.organisation_id, "source_id": source, "actor": "test:owner"}
    hr_sources.rotate(db, environment, secret=document(new), keep_hours=1, **given)
    assert send(client, claims("deactivate")).status_code == 202
    assert send(client, claims("activate", jti="b", at=1458505050), key=new).status_code == 202
    hr_sources.rotate(db, environment, secret=document(new), keep_hours=0, **given)
    for wrong in (None, "a secret of sixteen", "[]", document(keys=[]), document(issuer=""), document(audience=None)):
        with pytest.raises(InvalidInputError, match="secret: "):
            hr_sources.rotate(db, environment, secret=wrong, **given)
