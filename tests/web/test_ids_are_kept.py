"""Ids of the platform pass every door unchanged: ` anna`, `anna` and `anna ` are three people."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.commandline import csv_file, done
from tests.support.console import Person
from tests.support.web import MakeHr, event, make_source
from tests.web import test_bamboohr, test_okta
from tests.web.scim.conftest import Directory
from tests.world import World, assert_balanced, decide_due
from worker.access import tokens
from worker.config import Settings
from worker.database import Database

NAMES = [" anna", "anna", "anna "]
OFF = {"op": "replace", "path": "active", "value": False}


class Doors:
    """Every way to ask that one person be withdrawn."""

    def __init__(
        self, client: TestClient, db: Database, settings: Settings, world: World, make_hr: MakeHr,
        bearer: Callable[..., dict[str, str]],
    ) -> None:  # fmt: skip
        self._client, self._db, self._settings, self._world = client, db, settings, world
        self._make_hr, self._bearer = make_hr, bearer
        self.enrolments: dict[str, int] = {}

    def api(self, name: str) -> None:
        headers = {**self._bearer("operator"), "idempotency-key": "k"}
        asked = {"reason": "not_required", "learner_external_id": name}
        assert self._client.post("/v1/jobs", json=asked, headers=headers).status_code == 202

    def hr_webhook(self, name: str) -> None:
        assert self._make_hr().send(event(name)).status_code == 202

    def okta(self, name: str) -> None:
        secret = make_source(self._db, self._settings, self._world.organisation_id, "okta", "okta")
        told = test_okta.lifecycle(person=name)
        assert test_okta.send(self._client, secret, told).status_code == 200

    def bamboohr(self, name: str) -> None:
        make_source(
            self._db, self._settings, self._world.organisation_id, "bamboo", "bamboohr", secret=test_bamboohr.KEY
        )
        assert test_bamboohr.send(self._client, test_bamboohr.employee(name)).status_code == 200

    def command_submit(self, name: str) -> None:
        done("submit", "--learner", name, "--reason", "not_required")

    def command_deactivate(self, name: str) -> None:
        done("deactivate", name)

    def scim_patch(self, name: str) -> None:
        assert self._scim.patch(self._user(name), OFF).json()["active"] is False

    def scim_put(self, name: str) -> None:
        whole = {"userName": name, "externalId": name, "active": False}
        assert self._scim.call("PUT", f"/Users/{self._user(name)}", whole).json()["active"] is False

    def scim_delete(self, name: str) -> None:
        assert self._scim.call("DELETE", f"/Users/{self._user(name)}").status_code == 204

    def console_search(self, name: str) -> None:
        operator = self.operator
        found = operator.client.get("/console/enrolments", params={"learner": name})
        page = operator.get(found.headers["location"])
        shown = [other for other, number in self.enrolments.items() if f"/console/enrolments/{number}" in page]
        assert shown == [name]
        self.api(name)

    @property
    def _scim(self) -> Directory:
        return Directory(self._client, self._bearer("scim"))

    def _user(self, name: str) -> str:
        found = self._scim.call("GET", f'/Users?filter=externalId%20eq%20"{name.replace(" ", "%20")}"').json()
        assert [user["externalId"] for user in found["Resources"]] == [name]
        return str(found["Resources"][0]["id"])

    @property
    def operator(self) -> Person:
        made = tokens.create(
            self._db, organisation_id=self._world.organisation_id, name="otto", role="operator", actor="test:approver"
        )
        self._client.follow_redirects = False
        return Person(self._client, made.secret)


@pytest.fixture
def doors(
    client: TestClient, db: Database, environment: Settings, world: World, make_hr: MakeHr,
    bearer: Callable[..., dict[str, str]],
) -> Doors:  # fmt: skip
    return Doors(client, db, environment, world, make_hr, bearer)


@pytest.mark.part(3)
@pytest.mark.parametrize("name", [" anna", "anna "])
@pytest.mark.parametrize("door", [name for name, act in vars(Doors).items() if callable(act) and name[0] != "_"])
def test_a_space_at_an_end_of_an_id_makes_another_person(
    doors: Doors, world: World, db: Database, environment: Settings, door: str, name: str
) -> None:
    enrolments = doors.enrolments = {other: world.enrolment(other) for other in NAMES}
    getattr(doors, door)(name)
    decide_due(db, environment)
    assert [other for other in NAMES if world.status(enrolments[other]) == "withdrawn"] == [name]
    assert_balanced(db)


@pytest.mark.parametrize("name", [" anna", "anna "])
def test_scim_creates_just_the_person_that_it_names(
    client: TestClient, bearer: Callable[..., dict[str, str]], world: World, name: str
) -> None:
    scim = Directory(client, bearer("scim"))
    others = [other for other in NAMES if other != name]
    for other in others:
        world.learner(other)
    made = scim.create("anna@example.org", externalId=name)
    assert (made.status_code, made.json()["externalId"]) == (201, name)
    assert sorted(row[0] for row in world.run("SELECT external_id FROM lms.learners")) == sorted(NAMES)
    assert scim.create("again@example.org", externalId=name).status_code == 409


@pytest.mark.parametrize("name", [" anna", "anna "])
def test_a_csv_file_is_loaded_with_the_ids_that_it_has(world: World, tmp_path: Path, name: str) -> None:
    header = "enrolment_id,learner_external_id,series_code,pathway_title"
    rows = [f"{number},{other},C{number},P" for number, other in enumerate([*NAMES, name], start=1)]
    done("load", csv_file(tmp_path, "\n".join([header, *rows])), "--organisation", "Beta")
    found: list[Any] = world.run(
        "SELECT l.external_id FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id ORDER BY e.id"
    )
    assert [row[0] for row in found] == [*NAMES, name]


@pytest.mark.parametrize("name", [" anna", "anna "])
def test_an_undo_takes_back_just_the_person_that_the_form_names(
    doors: Doors, world: World, db: Database, environment: Settings, name: str
) -> None:
    enrolments = {other: world.enrolment(other) for other in NAMES}
    job = world.submit(db, list(enrolments.values()))
    decide_due(db, environment)
    doors.operator.post(f"/console/jobs/{job.id}/undo", learner=name, key="k")
    decide_due(db, environment)
    assert [other for other in NAMES if world.status(enrolments[other]) != "withdrawn"] == [name]


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_an_id_of_nothing_but_spaces_is_refused(
    client: TestClient, bearer: Callable[..., dict[str, str]], make_hr: MakeHr, name: str
) -> None:
    asked = {"reason": "not_required", "learner_external_id": name}
    headers = {**bearer("operator"), "idempotency-key": "k"}
    assert client.post("/v1/jobs", json=asked, headers=headers).status_code == 422
    assert make_hr().send(event(name)).status_code == 422
    assert Directory(client, bearer("scim")).create(externalId=name).status_code == 400
