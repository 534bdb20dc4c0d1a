"""Discovery, filters, pages, errors; and scim2-tester against the running service."""

import socket
import threading
from collections.abc import Callable
from urllib.parse import quote

import httpx2
import pytest
import uvicorn
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server
from starlette.testclient import TestClient

from tests.web.scim.conftest import Directory
from tests.world import PATIENCE, World
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app

Bearer = Callable[..., dict[str, str]]


def test_scim2_tester_finds_nothing_wrong(db: Database, environment: Settings, world: World, bearer: Bearer) -> None:
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{port}/scim/v2", headers=bearer("scim"), timeout=PATIENCE
            ) as http:
                results = check_server(SyncSCIMClient(http))
        finally:
            server.should_exit = True
            thread.join(15)
    # By the contract `active` cannot be removed, and `externalId`, which is the `userName` when none was given,
    # cannot be changed: these two of its attempts have to fail.
    contract = ("'externalId' is immutable", "active: cannot be removed")
    bad = [
        f"{result.status.name} {result.title}: {result.reason}"
        for result in results
        if result.status in (Status.ERROR, Status.CRITICAL, Status.DEVIATION)
        and not str(result.reason).endswith(contract)
    ]
    assert not bad, "\n".join(bad)
    assert sum(result.status in (Status.SUCCESS, Status.COMPLIANT) for result in results) > 30


def test_the_schemas_list_just_what_is_kept(scim: Directory) -> None:
    (schema,) = scim.call("GET", "/Schemas").json()["Resources"]
    assert {item["name"] for item in schema["attributes"]} <= {"userName", "externalId", "displayName", "active"}
    config = scim.call("GET", "/ServiceProviderConfig").json()
    assert (config["patch"]["supported"], config["etag"]["supported"], config["bulk"]["supported"]) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('userName eq "ANNA@example.org"', ["anna@example.org"]),
        ('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "anna@example.org"', ["anna@example.org"]),
        ('externalId eq "e1"', ["anna@example.org"]),
        ('externalId eq "E1"', []),
        ('userName co "@example" and not (active eq true)', ["ben@example.org"]),
        ('active eq "False" or userName sw "cleo"', ["ben@example.org", "cleo@example.org"]),
        ('userName ew ".org" and displayName pr', ["anna@example.org"]),
        ('userName ne "anna@example.org"', ["ben@example.org", "cleo@example.org"]),
        ('not (displayName eq "Anna")', ["ben@example.org", "cleo@example.org"]),
        ('displayName ne "Anna"', ["ben@example.org", "cleo@example.org"]),
        ('userName eq "x\' OR true --"', []),
        ('userName co "%"', []),
    ],
)
def test_filters(scim: Directory, expression: str, found: list[str]) -> None:
    scim.create("anna@example.org", externalId="e1", displayName="Anna")
    scim.create("ben@example.org", active=False)
    scim.create("cleo@example.org")
    assert scim.names(f"?filter={quote(expression)}") == found
    searched = scim.call("POST", "/Users/.search", {"filter": expression})
    assert [user["userName"] for user in searched.json()["Resources"]] == found


@pytest.mark.parametrize(
    "expression",
    [
        "userName eq", "((((", 'emails[type eq "work"]', 'title eq "x"', 'userName gt "a"', 'active eq "maybe"',
        "active co true", "userName eq 7", "(" * 3000, 'userName eq "\\ud800"', "x" * 3000,
        'userName eq "a\\u0000"', "",
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_answered_is_refused(scim: Directory, expression: str) -> None:
    answer = scim.call("GET", f"/Users?filter={quote(expression)}")
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidFilter"), answer.text


def test_pages(scim: Directory) -> None:
    for number in range(5):
        scim.create(f"user{number}@example.org")
    page = scim.call("GET", "/Users?startIndex=2&count=2").json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert [user["userName"] for user in page["Resources"]] == ["user1@example.org", "user2@example.org"]
    assert scim.names("?startIndex=0&count=1") == ["user0@example.org"]
    for query in ("?count=0", "?startIndex=6", "?count=-1"):
        answer = scim.call("GET", f"/Users{query}").json()
        assert (answer["totalResults"], answer.get("Resources", [])) == (5, [])
    assert len(scim.names("?sortBy=userName&sortOrder=descending&cursor=")) == 5, "neither is supported: ignored"
    assert scim.call("GET", "/Users?count=many").json()["scimType"] == "invalidValue"


def test_attributes_that_were_asked_for(scim: Directory) -> None:
    made = scim.create(displayName="Anna").json()
    only = scim.call("GET", f"/Users/{made['id']}?attributes=userName").json()
    assert "displayName" not in only
    assert (only["id"], only["userName"]) == (made["id"], "anna@example.org")
    without = scim.call("GET", "/Users?excludedAttributes=displayName").json()["Resources"][0]
    assert "displayName" not in without
    assert without["active"] is True


def test_a_learner_without_an_address_goes_by_its_external_id(scim: Directory, learner_id: str, world: World) -> None:
    shown = scim.call("GET", f"/Users/{learner_id}").json()
    assert (shown["userName"], shown["externalId"]) == ("anna", "anna")
    assert scim.names("?filter=userName%20eq%20%22anna%22") == ["anna"]
    put = scim.call("PUT", f"/Users/{learner_id}", {"userName": "anna", "displayName": "Anna"})
    assert put.status_code == 200
    assert world.one("SELECT email FROM lms.learners") is None


def test_errors_have_scims_form(scim: Directory, client: TestClient, bearer: Bearer) -> None:
    body, typed = b'{"userName": "a"}', {"content-type": "application/scim+json"}
    answers = {
        401: client.get("/scim/v2/Users"),
        403: client.get("/scim/v2/Users", headers=bearer("approver")),
        404: scim.call("GET", "/Users/x"),
        405: scim.call("DELETE", "/Users"),
        413: client.post("/scim/v2/Users", content=b"x" * 300_000, headers={**scim.headers, **typed}),
        415: client.post("/scim/v2/Users", content=body, headers={**scim.headers, "content-type": "text/plain"}),
        400: client.post("/scim/v2/Users", content=b"nonsense", headers={**scim.headers, **typed}),
    }
    for status, answer in answers.items():
        assert (answer.status_code, answer.json()["status"]) == (status, str(status)), answer.text
        assert answer.headers["content-type"] == "application/scim+json"
    assert answers[400].json()["scimType"] == "invalidSyntax"
    for name in ("9" * 30, "0", "-1", "1 OR 1=1", "%00"):
        assert scim.call("GET", f"/Users/{name}").status_code == 404


def test_what_describes_the_service_is_not_filtered(scim: Directory) -> None:
    for path in ("/Schemas", "/ResourceTypes"):
        assert scim.call("GET", f"{path}?filter=id%20pr").status_code == 403
        assert scim.call("GET", f"{path}/nothing").status_code == 404
    assert scim.call("GET", "/ResourceTypes/User").json()["endpoint"] == "/Users"
