"""The same rules at every door: what one refuses, all refuse with the same words; and all name the same codes."""

from html import unescape
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas import catalogue
from schemas.notifications import NOTICE_KINDS
from tests.support.commandline import withdrawals
from tests.support.console import MakeToken, Person
from tests.world import World

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
