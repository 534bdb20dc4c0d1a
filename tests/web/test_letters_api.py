"""Dead letters over HTTP: the rows of the contract's table for single letters."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def owned(db: Database, environment: Settings, world: World) -> tuple[int, int]:
    """A letter of a pathway's enrolment: letter, enrolment."""
    enrolment = world.enrolment("anna", pathway_id=world.pathway())
    world.submit(db, [enrolment])
    decide_due(db, environment)
    return world.letters()[0].id, enrolment


def act(client: TestClient, headers: dict[str, str], letter: int, verb: str, **body: Any) -> Any:
    return client.post(f"/v1/dead-letters/{letter}/{verb}", headers=headers, json=body or None)


def test_a_letter_is_shown_with_its_evidence_and_remedies(
    client: TestClient, bearer: Bearer, owned: tuple[int, int]
) -> None:
    letter = client.get(f"/v1/dead-letters/{owned[0]}", headers=bearer("viewer")).json()
    assert (letter["code"], letter["state"], letter["enrolment_id"]) == ("pathway_owned", "open", owned[1])
    assert letter["evidence"]["now"]["pathway_title"] == "Onboarding"
    assert {"override", "keep", "redrive", "discard"} <= set(letter["remedies"])
    assert client.get(f"/v1/dead-letters/{owned[0]}", headers=bearer("producer")).status_code == 403


def test_letters_are_listed_by_every_filter_in_pages(
    client: TestClient, bearer: Bearer, owned: tuple[int, int], db: Database, environment: Settings, world: World
) -> None:
    viewer = bearer("viewer")
    job = world.submit(db, [888_888, 999_999], source="admin")
    decide_due(db, environment)

    def found(**query: Any) -> Any:
        return client.get("/v1/dead-letters", headers=viewer, params=query)

    def codes(**query: Any) -> list[str]:
        return [item["code"] for item in found(**query).json()["items"]]

    assert codes() == ["pathway_owned", "not_found", "not_found"], "the one that is due first is at the top"
    assert codes(code="pathway_owned") == ["pathway_owned"]
    assert codes(job_id=job.id) == codes(source="admin") == codes(fingerprint="not_found") == ["not_found"] * 2
    assert codes(state="resolved") == codes(assignee="olga") == codes(older_than="2020-01-01T00:00:00Z") == []
    assert len(codes(assignee="none")) == 3
    first = found(limit=2).json()
    assert codes(limit=2, cursor=first["next_cursor"]) == ["not_found"]
    for wrong in ({"code": "lost"}, {"older_than": "soon"}, {"job_id": "x"}, {"job_id": 2**64}, {"fingerprint": "\0"}):
        answer = found(**wrong)
        assert (answer.status_code, next(iter(wrong)) in answer.json()["detail"]) == (422, True), wrong


def test_redrive_tries_again_and_a_second_one_has_to_wait(
    client: TestClient, bearer: Bearer, owned: tuple[int, int], db: Database, environment: Settings, world: World
) -> None:
    operator = bearer("operator", name="Olga")
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=owned[1])
    answer = act(client, operator, owned[0], "redrive", note="no longer owned")
    assert (answer.status_code, answer.json()["state"]) == (200, "redriven")
    again = act(client, operator, owned[0], "redrive")
    assert (again.status_code, "in flight" in again.json()["detail"]) == (409, True)
    decide_due(db, environment)
    letter = client.get(f"/v1/dead-letters/{owned[0]}", headers=operator).json()
    assert letter["state"] == "resolved"
    assert ("token:Olga", "no longer owned") in [(note["actor"], note["note"]) for note in letter["notes"]]
    assert world.status(owned[1]) == "withdrawn"
    assert_balanced(db)


def test_keep_is_for_operators_and_override_for_approvers_and_both_need_a_note(
    client: TestClient, bearer: Bearer, owned: tuple[int, int], db: Database, environment: Settings, world: World
) -> None:
    operator, approver = bearer("operator"), bearer("approver")
    for body in ({"remedy": "keep"}, {"remedy": "keep", "note": " "}, {"note": "why"}):
        assert act(client, operator, owned[0], "resolve", **body).status_code == 422
    assert act(client, operator, owned[0], "resolve", remedy="override", note="why").status_code == 403
    assert act(client, approver, owned[0], "resolve", remedy="burn", note="why").status_code == 422
    assert act(client, bearer("viewer"), owned[0], "resolve", remedy="keep", note="why").status_code == 403
    assert act(client, approver, owned[0], "resolve", remedy="override", note="agreed").status_code == 200
    decide_due(db, environment)
    assert world.status(owned[1]) == "withdrawn"
    other = world.enrolment("ben", pathway_id=world.pathway())
    world.submit(db, [other])
    decide_due(db, environment)
    kept = act(client, operator, world.letters()[1].id, "resolve", remedy="keep", note="its owner wants it")
    assert (kept.json()["state"], kept.json()["remedy"]) == ("resolved", "keep")
    assert world.status(other) == "in_progress"


def test_discard_closes_a_letter_once(client: TestClient, bearer: Bearer, owned: tuple[int, int]) -> None:
    operator = bearer("operator")
    assert act(client, bearer("viewer"), owned[0], "discard").status_code == 403
    assert act(client, operator, owned[0], "discard").json()["state"] == "discarded"
    again = act(client, operator, owned[0], "discard", note="twice")
    assert (again.status_code, again.json()["type"]) == (409, "urn:withdrawals:problem:conflict")


def test_another_organisations_letter_answers_as_one_that_does_not_exist(
    client: TestClient, bearer: Bearer, owned: tuple[int, int], world: World
) -> None:
    elsewhere = bearer("approver", organisation_id=world.organisation("Other"))
    assert client.get("/v1/dead-letters", headers=elsewhere).json()["items"] == []
    for verb, body in [("", None), ("/redrive", {}), ("/discard", {}), ("/resolve", {"remedy": "keep", "note": "x"})]:
        method = "POST" if verb else "GET"
        theirs = client.request(method, f"/v1/dead-letters/{owned[0]}{verb}", headers=elsewhere, json=body)
        none = client.request(method, f"/v1/dead-letters/999999{verb}", headers=elsewhere, json=body)
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(str(owned[0]), "999999", 1) == none.text
    assert world.letters()[0].state == "open"
