"""Every operation, as every role, about own and foreign records, made from the code: a new endpoint is covered, too."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from ops import roles
from ops.roles import Call
from schemas.catalogue import Role
from tests.security.estate import FOREIGN, NOBODY_S, Estate, absent, body_for, path_for
from worker.access import tokens
from worker.dead_letters.acts import ACTS
from worker.notifications import transport
from worker.web import app as web
from worker.web.console import app as console
from worker.web.lean import LeanRoute
from worker.webhooks import safe_post

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
OPEN = {
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "POST /hooks/hr/{source}",
    "GET /hooks/okta/{source}",
    "POST /hooks/okta/{source}",
    "POST /hooks/bamboohr/{source}",
    "POST /hooks/hibob/{source}",
    "POST /hooks/personio/{source}",
    "POST /hooks/finch/{source}",
    "POST /hooks/security-events/{source}",
}
"""Operations that need no token: probes, and HR systems, which authenticate in another way."""
OPEN_PAGES = {
    "GET /console/sign-in",
    "POST /console/sign-in",
    "POST /console/sign-in/demo",
    "GET /console/sign-in/provider",
    "GET /console/sign-in/callback",
    "POST /console/sign-in/organisation",
    "POST /console/back-channel-logout",
    "GET /console/link",
    "POST /console/link",
    "GET /console/signed-out",
    "POST /console/language",
}
"""Pages and forms that lead to a session, or tell that one has ended; tests/sign_on attacks them. A language is chosen
before there is one, and kept by the browser."""
API, PAGES = roles.api_calls(), roles.console_calls()
PROTECTED = [call for call in API if not call.is_open]
ABOUT_RECORDS = [call for call in PROTECTED if "_id}" in call.path]
SIGN_IN = "/console/sign-in"
ENDS = "{letter_id}/act", "act"


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that test a webhook or a notification reach nobody."""
    monkeypatch.setattr(transport, "send", lambda *_, **__: None)
    monkeypatch.setattr(safe_post, "post", lambda *_, **__: safe_post.Answer(status=204))


class Api:
    """Makes any operation of the document, with a body that the document allows."""

    def __init__(self, client: TestClient, app: FastAPI) -> None:
        self.client, self.document = client, app.openapi()

    def make(self, call: Call, ids: dict[str, Any], headers: dict[str, str]) -> Any:
        operation = self.document["paths"][call.path][call.method.lower()]
        given = body_for(operation, self.document)
        sent = {"Idempotency-Key": "a-key", **given.pop("headers", {}), **headers}
        return self.client.request(call.method, path_for(call.path, ids), headers=sent, **given)


@pytest.fixture
def api(client: TestClient, app: FastAPI) -> Api:
    return Api(client, app)


def _part(calls: Sequence[Call], role: Role) -> Sequence[Call]:
    """In the suite every third call."""
    return calls if FULL else calls[list(Role).index(role) % 3 :: 3]


def name_of(call: Call) -> str:
    return f"{call.method} {call.path}"


def told(answer: Any, asked: object) -> tuple[int, str, str]:
    """What an answer tells: status, type and body, without the id that was asked for."""
    return answer.status_code, answer.headers.get("content-type", ""), str(answer.text).replace(str(asked), "<id>")


def test_the_page_about_roles_is_what_the_code_says() -> None:
    assert roles.PAGE.read_text(encoding="utf-8") == roles.render(), "run: python -m ops.roles"


def test_only_these_operations_are_open_and_no_route_is_outside_the_lists(app: FastAPI) -> None:
    assert {name_of(call) for call in API if call.is_open} == OPEN
    assert {name_of(call) for call in PAGES if call.is_open} == OPEN_PAGES
    others = [
        route.path for route in app.routes if isinstance(route, Route | Mount) and not isinstance(route, LeanRoute)
    ]
    assert sorted(others) == ["/", "/console/static", "/openapi.json"]
    assert len(app.routes) - len(others) == len(web.LEAN) + len(web.ROUTERS) + len(console.ROUTERS)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_do_what_the_document_says_and_nothing_else(api: Api, estate: Estate, role: Role) -> None:
    """Those that are refused write nothing; those that are allowed are asked about records of their own.

    In the suite every third of the latter: each role has others.
    """
    headers, refused, allowed = estate.bearer(role), [], []
    before = estate.written()
    for call in PROTECTED:
        if not call.allows(role):
            answer = api.make(call, estate.own.ids, headers)
            if answer.status_code != 403 or f"the role {role}" not in answer.text:
                refused.append(f"{name_of(call)}: {answer.status_code} {answer.text[:200]}")
    assert refused == [], "too much is allowed"
    assert estate.written() == before
    for call in _part(PROTECTED, role):
        if call.allows(role):
            answer = api.make(call, estate.own.ids, {**headers, "Last-Event-ID": "end"})
            if answer.status_code in (401, 403) or answer.status_code >= 500:
                allowed.append(f"{name_of(call)}: {answer.status_code} {answer.text[:200]}")
    assert allowed == [], "too little is allowed"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.APPROVER, Role.OWNER])
def test_an_act_on_letters_needs_the_role_of_the_act(client: TestClient, estate: Estate, role: Role) -> None:
    headers, letter = estate.bearer(role), estate.own.ids["letter_id"]
    visitor = _visitor(client, estate.token(role))
    one, many = (next(call for call in PAGES if name_of(call) == f"POST /console/dead-letters/{end}") for end in ENDS)
    for act, entry in ACTS.items():
        answers = [visitor(call, estate.own.ids, act=act, note="x") for call in (one, many)]
        if entry.is_resolution:
            body = {"remedy": act, "note": "x"}
            for path in (f"/v1/dead-letters/{letter}/resolve", "/v1/dead-letters/resolve"):
                answers.append(client.post(path, headers=headers, json=body))
        for answer in answers:
            assert (answer.status_code == 403) is not role.includes(entry.role), (act, answer.text)


def test_without_a_live_token_every_call_gets_one_and_the_same_refusal(api: Api, estate: Estate) -> None:
    made = tokens.create(
        estate.db, organisation_id=estate.own.organisation_id, name="gone", role="owner", actor="test:x"
    )
    tokens.revoke(estate.db, organisation_id=estate.own.organisation_id, token_id=made.token.id, actor="test:x")
    unknown = made.secret[:-4] + "AAAA"
    before, answers = estate.written(), set()
    presented = [{}, *({"Authorization": f"Bearer {secret}"} for secret in (made.secret, unknown, "x"))]
    presented.append({"Authorization": f"Basic {made.secret}"})
    for number, call in enumerate(PROTECTED):
        kind = "scim" if call.path.startswith("/scim") else "problem"
        # Of what is presented, in the suite two for each call: a token is looked at before the call is.
        chosen = presented if FULL else [presented[number % 5], presented[(number + 1) % 5]]
        answers |= {(kind, *told(api.make(call, estate.own.ids, headers), "")[::2]) for headers in chosen}
    assert {(kind, status) for kind, status, _ in answers} == {("scim", 401), ("problem", 401)}
    assert len(answers) == 2, answers
    assert estate.written() == before


@pytest.mark.parametrize("role", ["owner", "scim"])
def test_a_record_of_another_organisation_answers_as_one_that_does_not_exist(
    api: Api, estate: Estate, role: Role
) -> None:
    headers, before, differ = estate.bearer(role), estate.written(), []
    for call in ABOUT_RECORDS:
        if not call.allows(Role(role)):
            continue
        (name,) = re.findall(r"{(\w+_id)}", call.path)
        foreign = api.make(call, estate.foreign.ids, headers)
        nobodys = api.make(call, absent(estate.foreign.ids), headers)
        if told(foreign, estate.foreign.ids[name]) != told(nobodys, NOBODY_S):
            differ.append(f"{name_of(call)}: {foreign.status_code} {foreign.text} {nobodys.status_code} {nobodys.text}")
        if foreign.status_code != 404 and "deliveries" not in call.path:  # a list of nothing
            differ.append(f"{name_of(call)}: {foreign.status_code} {foreign.text}")
    assert differ == []
    assert estate.written() == before


def test_a_producer_sees_its_own_jobs_alone(api: Api, estate: Estate) -> None:
    """The other job is of the same organisation, which an approver reads."""
    mine, differ = estate.bearer("producer", name="mine"), []
    plan_of_others = {"job_id": estate.own.ids["job_id"]}
    for call in ABOUT_RECORDS:
        if Role.PRODUCER not in call.roles:
            continue
        others = api.make(call, {**estate.own.ids, **plan_of_others}, mine)
        nobodys = api.make(call, absent(estate.own.ids), mine)
        if told(others, estate.own.ids["job_id"]) != told(nobodys, NOBODY_S) or others.status_code != 404:
            differ.append(f"{name_of(call)}: {others.status_code} {others.text}")
    assert differ == []
    for query in ("", "?requested_by=token:ours", "?state=completed_with_exceptions"):
        assert api.client.get(f"/v1/jobs{query}", headers=mine).json()["items"] == [], query


def test_no_list_shows_anything_of_another_organisation(api: Api, estate: Estate) -> None:
    """Also not when a filter or a body names its records: the answer is that of names that nobody has."""
    approver, scim, leaks = estate.bearer("owner"), estate.bearer("scim"), []
    for call in PROTECTED:
        if call.method != "GET" or "_id}" in call.path:
            continue
        headers = scim if Role.SCIM in call.roles else approver
        operation = api.document["paths"][call.path]["get"]
        queries = [{}, *_queries(operation, estate)]
        for query in queries:
            answer = api.client.get(path_for(call.path, {}), params=query, headers=headers)
            if FOREIGN in str(answer.text).replace(str(query), "") and FOREIGN not in str(query):
                leaks.append(f"{name_of(call)} {query}")
            if query and _items(answer):
                leaks.append(f"{name_of(call)} {query}: {answer.text[:300]}")
    ids = [estate.foreign.ids["enrolment_id"], NOBODY_S]
    for selected in [{"enrolment_ids": [one]} for one in ids] + [
        {"filter": {"learner_ids": [estate.foreign.ids["user_id"]]}}
    ]:
        plan = api.client.post("/v1/jobs/plan", headers=approver, json={"reason": "not_required", **selected}).json()
        assert (plan["learners"], set(plan["outcomes"]) - {"not_found"}) == (0, set()), plan
    assert leaks == []


def _queries(operation: dict[str, Any], estate: Estate) -> Iterator[dict[str, str]]:
    """A query for each parameter that can name a record of the other organisation."""
    values = {
        "series_id": estate.foreign.ids["series_id"],
        "job_id": estate.foreign.ids["job_id"],
        "requested_by": f"token:{FOREIGN}",
        "assignee": FOREIGN,
        "filter": f'externalId eq "learner-{FOREIGN}"',
    }
    for parameter in operation.get("parameters", []):
        if parameter["name"] in values:
            yield {parameter["name"]: str(values[parameter["name"]])}


def _items(answer: Any) -> list[Any]:
    if "json" not in answer.headers.get("content-type", ""):
        return str(answer.text).splitlines()[1:]
    document = answer.json()
    found: list[Any] = document.get("items", document.get("Resources", []))
    return found


def test_a_page_without_a_session_leads_to_the_sign_in_and_writes_nothing(client: TestClient, estate: Estate) -> None:
    before = estate.written()
    for call in PAGES:
        if call.is_open:
            continue
        for cookie in ({}, {"Cookie": "withdrawals_session=forged"}):
            answer = client.request(call.method, path_for(call.path, estate.own.ids), headers=cookie)
            assert answer.status_code in (303, 422), name_of(call)
            if answer.status_code == 303:
                assert answer.headers["location"].startswith(SIGN_IN), name_of(call)
    assert estate.written() == before


@pytest.mark.parametrize("role", [role for role in Role if role.includes(Role.VIEWER)])
def test_a_page_is_for_the_roles_that_the_code_names(client: TestClient, estate: Estate, role: Role) -> None:
    visitor, wrong = _visitor(client, estate.token(role)), []
    before = estate.written()
    for call in PAGES:
        if call.is_open or call.allows(role):
            continue
        answer = visitor(call, estate.own.ids)
        if answer.status_code != 403 or f"the role {role}" not in answer.text:
            wrong.append(f"{name_of(call)}: {answer.status_code}, not refused")
    assert wrong == []
    assert estate.written() == before
    for call in _part(PAGES, role):
        if call.is_open or not call.allows(role) or call.path in ("/console/sign-out", "/console/jobs/{job_id}/events"):
            continue
        answer = visitor(call, estate.own.ids, act="keep")
        if answer.status_code in (401, 403) or answer.status_code >= 500 or _led_away(answer):
            wrong.append(f"{name_of(call)}: {answer.status_code}, not allowed")
    assert wrong == []


def test_a_page_about_a_foreign_record_is_that_of_a_record_that_does_not_exist(
    client: TestClient, estate: Estate
) -> None:
    visitor, before, differ = _visitor(client, estate.token("owner")), estate.written(), []
    for call in PAGES:
        found = re.findall(r"{(\w+_id)}", call.path)
        if not found:
            continue
        (name,) = found
        foreign = visitor(
            call, estate.foreign.ids, act="keep", note="x", reason="not_required", day="2030-01-01", key="k", name="x"
        )
        nobodys = visitor(
            call,
            absent(estate.foreign.ids),
            act="keep",
            note="x",
            reason="not_required",
            day="2030-01-01",
            key="k",
            name="x",
        )
        if told(foreign, estate.foreign.ids[name]) != told(nobodys, NOBODY_S) or foreign.status_code != 404:
            differ.append(f"{name_of(call)}: {foreign.status_code} {nobodys.status_code}")
        if FOREIGN in foreign.text:
            differ.append(f"{name_of(call)}: shows the other organisation")
    assert differ == []
    after = estate.written()
    assert {table for table in after if after[table] != before[table]} <= {"withdrawals.sessions"}


def test_no_page_shows_anything_of_another_organisation(client: TestClient, estate: Estate) -> None:
    visitor = _visitor(client, estate.token("owner"))
    for call in PAGES:
        if call.method == "GET" and "_id}" not in call.path:
            assert FOREIGN not in visitor(call, {}, act="keep").text, name_of(call)
    for query in (
        f"series?q={FOREIGN}",
        f"enrolments?learner={FOREIGN}",
        f"reports?series={FOREIGN}",
        f"jobs?requested_by={FOREIGN}",
    ):
        page = client.get(f"/console/{query}").text
        assert f"/console/series/{estate.foreign.ids['series_id']}" not in page, query
        assert str(estate.foreign.ids["enrolment_id"]) not in page, query
        assert str(estate.foreign.ids["job_id"]) not in page, query


def test_a_form_without_the_sessions_own_field_changes_nothing(client: TestClient, estate: Estate) -> None:
    visitor, before = _visitor(client, estate.token("owner")), estate.written()
    for call in PAGES:
        if call.method == "POST" and not call.is_open:
            answer = visitor(call, estate.own.ids, csrf="0" * 64, act="keep", note="x", reason="not_required", key="k")
            assert answer.status_code == 403, name_of(call)
            assert "another sign-in" in answer.text, name_of(call)
    assert estate.written() == before


def _visitor(client: TestClient, secret: str) -> Any:
    """Somebody signed in: makes a call of the console with the form's own field and fields that no form refuses."""
    assert client.post(SIGN_IN, data={"token": secret}).status_code == 303
    found = re.search(r'name="csrf" value="([^"]*)"', client.get("/console").text)
    assert found
    own = found[1]

    def visit(call: Call, ids: dict[str, Any], **form: str) -> Any:
        path = path_for(call.path, ids)
        if call.method == "GET":
            return client.get(path, params={"act": form["act"]} if "act" in form else None)
        files = {"file": ("ids.csv", b"enrolment_id\n1\n")} if path.endswith("/file") else None
        needed = {"csrf": own, "seen_at": "2026-03-01T08:00:00Z", **form}
        return client.post(path, data=needed, files=files)

    return visit


def _led_away(answer: Any) -> bool:
    return answer.status_code == 303 and str(answer.headers["location"]).startswith(SIGN_IN)
