"""Lists of jobs and dead letters by Series, learner, reason, source and dates: API, command line and console agree."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.jobs import JobRequest
from tests.support.commandline import done
from tests.support.console import MakeToken, Visitor
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import submit

JOBS: list[tuple[dict[str, str], set[str]]] = [
    ({}, {"anna", "many", "of_series", "declined"}),
    ({"reason": "learner_declined"}, {"declined"}),
    ({"series_id": "SERIES"}, {"of_series"}),
    ({"learner_external_id": "anna"}, {"anna", "many"}),
    ({"learner_external_id": "ben", "reason": "not_required"}, {"many"}),
    ({"learner_external_id": "nobody"}, set()),
    ({"source": "hr"}, set()),
    ({"created_after": "2999-01-01T00:00:00Z"}, set()),
]
LETTERS: list[tuple[dict[str, str], set[str]]] = [
    ({}, {"ben", "carla", "dora"}),
    ({"reason": "learner_declined"}, {"carla"}),
    ({"series_id": "SERIES"}, {"dora"}),
    ({"learner_external_id": "ben"}, {"ben"}),
    ({"newer_than": "2999-01-01T00:00:00Z"}, set()),
    ({"newer_than": "2000-01-01T00:00:00Z", "learner_external_id": "carla"}, {"carla"}),
]


@pytest.fixture
def filled(db: Database, world: World, environment: Settings) -> dict[str, Any]:
    """Jobs and letters by name, and the Series `SERIES`."""
    pathway = world.pathway()
    owned = {name: world.enrolment(name, pathway_id=pathway) for name in ("ben", "carla", "dora")}
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :i", i=owned["dora"])
    other = world.organisation("Other")
    world.enrolment("anna", organisation_id=other)
    by_name = {
        "anna": submit(db, world.requester(), JobRequest(reason="not_required", learner_external_id="anna")).job.id,
        "many": world.submit(db, [world.enrolment("anna"), owned["ben"]]).id,
        "declined": world.submit(db, [owned["carla"]], reason="learner_declined").id,
        "of_series": submit(
            db, world.requester(), JobRequest(reason="not_required", filter={"series_id": series})
        ).job.id,
    }
    decide_due(db, environment)
    letters = {
        letter.id: next((name for name, one in owned.items() if one == letter.enrolment_id), "unknown learner")
        for letter in world.letters()
    }
    code = world.one("SELECT code FROM lms.series WHERE id = :i", i=series)
    return {"jobs": {job: name for name, job in by_name.items()}, "letters": letters, "series": series, "code": code}


def _named(filled: dict[str, Any], conditions: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("SERIES", str(filled["series"])) for name, value in conditions.items()}


def test_jobs_and_letters_are_filtered_alike_everywhere(
    client: TestClient, token: MakeToken, filled: dict[str, Any]
) -> None:
    secret = token("viewer")
    headers = {"Authorization": f"Bearer {secret}"}
    for kind, path, cases in (("jobs", "/v1/jobs", JOBS), ("letters", "/v1/dead-letters", LETTERS)):
        for conditions, expected in cases:
            query = _named(filled, conditions)
            answer = client.get(path, params=query, headers=headers)
            assert answer.status_code == 200, answer.text
            assert {filled[kind][one["id"]] for one in answer.json()["items"]} == expected, (path, query)
    for conditions, expected in JOBS[1:4]:
        options = [f"--filter={name}={value}" for name, value in _named(filled, conditions).items()]
        found = done("jobs", "list", *options, "--organisation", "Acme")
        assert {filled["jobs"][one["id"]] for one in found["items"]} == expected, options
    short = {"series_id": "--series", "learner_external_id": "--learner"}
    for conditions, expected in LETTERS[2:5]:
        options = [
            f"{short.get(name, '--' + name.replace('_', '-'))}={value}"
            for name, value in _named(filled, conditions).items()
        ]
        found = done("dead-letters", "list", *options, "--organisation", "Acme")
        assert {filled["letters"][one["id"]] for one in found["items"]} == expected, options

    visitor = Visitor(client, secret)

    def shown(kind: str, path: str, **query: str) -> set[str]:
        text = visitor.get(path, **query).text
        return {name for row, name in filled[kind].items() if f'href="{path}/{row}' in text}

    assert shown("jobs", "/console/jobs", series=filled["code"]) == {"of_series"}
    assert shown("jobs", "/console/jobs", learner="anna", created_from="2000-01-01") == {"anna", "many"}
    assert shown("letters", "/console/dead-letters", series=filled["code"]) == {"dora"}
    assert shown("letters", "/console/dead-letters", newer_than="2999-01-01") == set()
    assert shown("letters", "/console/dead-letters", learner_external_id="ben", reason="not_required") == {"ben"}
    wrong = visitor.get("/console/jobs", series="no such code", state="held")
    assert (wrong.status_code, "no Series has the code" in wrong.text) == (422, True)
    assert visitor.get("/console/dead-letters", series="no such code").status_code == 422
