"""The same rules at every door: what one refuses, all refuse with the same words; and all name the same codes."""

from html import unescape
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas import catalogue
from schemas.notifications import NOTICE_KINDS
from tests.approvals.office import Office
from tests.support.commandline import withdrawals
from tests.support.console import MakeToken, Person
from tests.world import World
from worker.config import Settings
from worker.database import Database

LONG = "x" * 2001
DOORS: list[tuple[dict[str, Any], tuple[object, ...], tuple[str, dict[str, Any]] | None]] = [
    # over HTTP, on the command line, at the console where it has such a form
    (
        {"url": "/v1/jobs", "json": {"reason": "because", "enrolment_ids": [1]}},
        ("submit", 1, "--reason", "because"),
        ("/console/withdraw", {"what": "ticked", "enrolment_ids": "1", "reason": "because"}),
    ),
    (
        {"url": "/v1/jobs", "json": {"reason": "not_required", "enrolment_ids": [1], "note": LONG}},
        ("submit", 1, "--reason", "not_required", "--note", LONG),
        ("/console/withdraw", {"what": "ticked", "enrolment_ids": "1", "reason": "not_required", "note": LONG}),
    ),
    (
        {"url": "/v1/jobs", "json": {"reason": "not_required", "source": "correction", "enrolment_ids": [1]}},
        ("submit", 1, "--reason", "not_required", "--source", "correction"),
        None,
    ),
    (
        {"url": "/v1/protections", "json": {"learner_external_id": "anna", "kind": "exemption", "reason": "asked"}},
        ("protection", "add", "--learner", "anna", "--kind", "exemption", "--reason", "asked"),
        ("/console/people/protect", {"learner": "anna", "kind": "exemption", "reason": "asked"}),
    ),
    (
        {"url": "/v1/protections", "json": {"learner_external_id": "anna", "kind": "odd", "reason": "asked"}},
        ("protection", "add", "--learner", "anna", "--kind", "odd", "--reason", "asked"),
        ("/console/people/protect", {"learner": "anna", "kind": "odd", "reason": "asked"}),
    ),
    (
        {"url": "/v1/tokens", "json": {"name": "sync", "role": "boss"}},
        ("tokens", "create", "--name", "sync", "--role", "boss"),
        ("/console/settings/tokens", {"name": "sync", "role": "boss"}),
    ),
    (
        {"url": "/v1/notifications", "json": {"to": "a@b.example", "kinds": ["odd"]}},
        ("notifications", "add", "--to", "a@b.example", "--kind", "odd"),
        ("/console/settings/notifications", {"to": "a@b.example", "kinds": "odd"}),
    ),
    (
        {"method": "PUT", "url": "/v1/brake", "json": {"hours": 0}},
        ("brake", "propose", "--hours", "0"),
        ("/console/brake", {"hours": "0"}),
    ),
    (
        {"method": "PUT", "url": "/v1/policies", "json": {"rules": [{"act": "odd", "alone_up_to": 0}]}},
        ("policies", "set", "--rule", "odd=0"),
        None,
    ),
    (
        {"method": "PUT", "url": "/v1/policies", "json": {"rules": [{"act": "policies", "alone_up_to": None}]}},
        ("policies", "set", "--rule", "policies=any"),
        None,
    ),
]


def test_every_door_refuses_the_same_with_the_same_words(
    client: TestClient, token: MakeToken, world: World, subtests: pytest.Subtests
) -> None:
    world.enrolment("anna")
    secret = token("owner", name="ada")
    person = Person(client, secret)
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "one"}
    for http, words, form in DOORS:
        with subtests.test(" ".join(map(str, words[:2]))):
            answer = client.request(**{"method": "POST", "headers": headers} | http)
            assert answer.status_code == 422, answer.text
            said = answer.json()["errors"][0]["message"]
            ran = withdrawals(*words)
            assert (ran.code, said in ran.err) == (2, True), (said, ran)
            if form is not None:
                assert said in unescape(person.post(form[0], 422, **form[1]).text), said


def test_nobody_is_asked_for_an_approval_without_a_reason(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    """Every door refuses it before anything is written. What one person may do alone needs no reason."""
    office = Office(db, world, environment)
    job, later = office.held_job(), office.held_job()
    secret = token("owner", name="bea")
    office.rules(release=0, token=0)
    person, headers = Person(client, secret), {"Authorization": f"Bearer {secret}"}
    boss, rules = {"name": "boss", "role": "owner"}, [{"act": "lift", "alone_up_to": 0}]
    release, blank = f"jobs/{job.id}/release", {"note": " "}
    held = {"held_because": "brake"}
    doors: list[tuple[str, str, dict[str, Any], tuple[object, ...], tuple[str, dict[str, Any]] | None]] = [
        ("POST", f"/v1/{release}", blank, ("jobs", "release", job.id, "--note", " "), (release, blank)),
        ("POST", "/v1/jobs/release", {"filter": held}, ("jobs", "release", "--filter", "held_because=brake"), None),
        ("POST", "/v1/tokens", boss, ("tokens", "create", "--name=boss", "--role=owner"), ("settings/tokens", boss)),
        ("PUT", "/v1/policies", {"rules": rules}, ("policies", "set", "--rule", "lift=0"), None),
        ("PUT", "/v1/brake", {"floor": 7}, ("brake", "set", "--floor", 7), ("brake", {"floor": "7"})),
    ]
    said = "this needs a second person. Say why, for whoever decides on it."
    written = "SELECT count(*) FROM withdrawals.audit"
    before = world.one(written)
    for method, url, body, words, form in doors:
        answer = client.request(method, url, headers=headers, json=body)
        assert (answer.status_code, f"note: {said}" in answer.text) == (422, True), answer.text
        ran = withdrawals(*words, "--as", "eve")
        assert (ran.code, f"note: {said}" in ran.err) == (2, True), (words, ran)
        if form is not None:
            assert said in person.post(f"/console/{form[0]}", 422, **form[1]).text, form
    assert world.one(written) == before
    assert world.one("SELECT count(*) FROM withdrawals.approvals") == 0
    office.rules(release=3)
    assert client.post(f"/v1/jobs/{later.id}/release", headers=headers).status_code == 200


def test_every_door_names_the_codes_of_the_catalogue(client: TestClient, token: MakeToken, world: World) -> None:
    """In the document of the API, in the help of the command, and in the choices of the page."""
    world.enrolment("anna")
    person = Person(client, token("owner", name="ada"))
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    choices: list[tuple[str, Any, tuple[str, ...], str | None]] = [
        ("ProtectionKind", catalogue.PROTECTION_KINDS, ("protection", "add"), "/console/people?learner=anna"),
        ("Role", catalogue.ROLES, ("tokens", "create"), "/console/settings/tokens"),
        ("NoticeKind", NOTICE_KINDS, ("notifications", "add"), "/console/settings/notifications"),
        ("GuardedAct", catalogue.GUARDED_ACTS, ("policies", "set"), None),
        ("LetterState", catalogue.LETTER_STATES, ("dead-letters", "list"), None),
        ("JobState", catalogue.JOB_STATES, ("jobs", "list"), None),
    ]
    for name, entries, words, page in choices:
        codes = [str(code) for code in entries]
        assert schemas[name]["enum"] == codes
        shown = withdrawals(*words, "--help").out
        assert not [code for code in codes if code not in shown], words
        if page is not None:
            html = person.get(page)
            assert not [code for code in codes if f'value="{code}"' not in html], page
