"""Users: `active` is the only thing that withdraws, whatever a client's dialect."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog

from tests.web.scim.conftest import Directory, recorded
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies

Bearer = Callable[..., dict[str, str]]
OFF = {"op": "replace", "path": "active", "value": False}
ON = {"op": "replace", "path": "active", "value": True}


def jobs(world: World) -> list[tuple[str, str, str]]:
    rows = world.run("SELECT state, door, requested_by FROM withdrawals.jobs ORDER BY id")
    return [tuple(row) for row in rows]


def test_oktas_requests_from_first_to_last(scim: Directory, world: World, db: Database, environment: Settings) -> None:
    okta = recorded("okta")
    assert scim.play(okta["look before create"]).json()["totalResults"] == 0
    made = scim.play(okta["create"])
    assert made.status_code == 201
    assert made.json()["externalId"] == "00u1anna"
    assert made.headers["location"].endswith(f"/scim/v2/Users/{scim.user_id}")
    enrolment_id = world.enrolment("00u1anna")
    assert scim.play(okta["deactivate"]).json()["active"] is False
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert jobs(world) == [("completed", "scim", "token:okta")]
    assert scim.play(okta["deactivate"]).json()["active"] is False, "the same state again changes nothing"
    assert len(jobs(world)) == 1
    assert scim.play(okta["reactivate"]).json()["active"] is True
    assert world.status(enrolment_id) == "withdrawn", "coming back never reinstates by itself"
    assert scim.play(okta["update profile"]).json()["userName"] == "anna.berg@example.org"
    assert_balanced(db)


@pytest.mark.parametrize("disable", ["disable", "disable by urn"])
def test_entras_requests_from_first_to_last(
    scim: Directory, world: World, db: Database, environment: Settings, disable: str
) -> None:
    entra = recorded("entra")
    assert scim.play(entra["look before create"]).json()["totalResults"] == 0
    assert scim.play(entra["create"]).status_code == 201
    enrolment_id = world.enrolment("anna")
    updated = scim.play(entra["update"])
    assert updated.json()["displayName"] == "Anna Berg-Olsen"
    assert updated.json()["userName"] == "anna@example.org", "what is not kept here is left alone"
    assert scim.play(entra[disable]).json()["active"] is False
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert scim.play(entra["restore"]).json()["active"] is True
    assert scim.play(entra["delete"]).status_code == 204
    assert scim.play(entra["delete"]).status_code == 404
    assert scim.play(entra["look before create"]).json()["totalResults"] == 0
    assert_balanced(db)


def test_who_comes_back_before_it_is_applied_is_not_withdrawn(
    scim: Directory, world: World, db: Database, environment: Settings, learner_id: str
) -> None:
    enrolment_id = world.enrolment("anna")
    scim.patch(learner_id, OFF)
    scim.patch(learner_id, ON)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert world.active("anna")
    assert [state for state, _, _ in jobs(world)] == ["superseded"]


@pytest.mark.parametrize("value", [False, "false", "False", "FALSE"])
def test_false_in_any_spelling_deactivates(scim: Directory, world: World, learner_id: str, value: Any) -> None:
    assert scim.patch(learner_id, {**OFF, "value": value}).json()["active"] is False
    assert not world.active("anna")


@pytest.mark.parametrize("value", [None, 0, 1, "no", "", "0", [], {}, "off"])
def test_nothing_else_deactivates(scim: Directory, world: World, learner_id: str, value: Any) -> None:
    """`null`, `0` and "no" are refused in a PATCH, a PUT and a POST, and nobody is withdrawn."""
    answers = [
        scim.patch(learner_id, {"op": "replace", "path": "displayName", "value": "A"}, {**OFF, "value": value}),
        scim.patch(learner_id, {"op": "replace", "value": {"active": value}}),
        scim.call("PUT", f"/Users/{learner_id}", {"userName": "anna", "active": value}),
        scim.create("ben@example.org", active=value),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue"), answer.text
    assert world.active("anna")
    assert world.one("SELECT display_name FROM lms.learners") is None, "all operations or none"


def test_active_cannot_be_removed_and_a_put_without_it_leaves_it(
    scim: Directory, world: World, learner_id: str
) -> None:
    removed = scim.patch(learner_id, {"op": "remove", "path": "active"})
    assert (removed.status_code, removed.json()["scimType"]) == (400, "invalidValue")
    scim.patch(learner_id, OFF)
    put = scim.call("PUT", f"/Users/{learner_id}", {"userName": "anna@example.org"})
    assert put.json()["active"] is False
    assert world.active("anna") is False


def test_only_the_last_state_of_a_patch_counts(scim: Directory, world: World, learner_id: str) -> None:
    assert scim.patch(learner_id, OFF, ON).json()["active"] is True
    assert jobs(world) == []


def test_one_made_inactive_can_still_be_read_and_found_and_a_deleted_one_cannot(
    scim: Directory, world: World, learner_id: str
) -> None:
    scim.patch(learner_id, OFF)
    assert scim.call("GET", f"/Users/{learner_id}").json()["active"] is False
    assert scim.names("?filter=active%20eq%20false") == ["anna"]
    assert scim.call("DELETE", f"/Users/{learner_id}").status_code == 204
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"userName": "a"}), ("PATCH", {"Operations": [OFF]})):
        answer = scim.call(method, f"/Users/{learner_id}", body)
        assert (answer.status_code, answer.json()["status"]) == (404, "404")
    assert scim.names() == []
    assert world.one("SELECT count(*) FROM lms.learners") == 1


@pytest.mark.parametrize("by", ["userName", "externalId"])
def test_a_deleted_user_is_revived_by_a_post_as_a_reactivation(
    scim: Directory, world: World, db: Database, environment: Settings, by: str
) -> None:
    first = scim.create(externalId="4711").json()
    enrolment_id = world.enrolment("4711")
    scim.call("DELETE", f"/Users/{first['id']}")
    again = scim.create("ANNA@example.org") if by == "userName" else scim.create("new@example.org", externalId="4711")
    assert again.status_code == 201
    assert (again.json()["id"], again.json()["externalId"]) == (first["id"], "4711")
    decide_due(db, environment)
    assert world.active("4711")
    assert world.status(enrolment_id) == "in_progress"
    assert_balanced(db)


def test_names_are_unique_in_the_organisation_whatever_their_case(scim: Directory, world: World) -> None:
    scim.create()
    other = scim.create("ben@example.org").json()
    answers = [
        scim.create("Anna@Example.org"),
        scim.create("cleo@example.org", externalId="anna@example.org"),
        scim.patch(other["id"], {"op": "replace", "path": "userName", "value": "ANNA@example.org"}),
        scim.call("PUT", f"/Users/{other['id']}", {"userName": "anna@example.org"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness"), answer.text
    assert scim.names() == ["anna@example.org", "ben@example.org"]


def test_the_external_id_cannot_be_changed(scim: Directory) -> None:
    made = scim.create(externalId="4711").json()
    same = scim.patch(made["id"], {"op": "replace", "path": "externalId", "value": "4711"})
    assert same.status_code == 200
    for answer in (
        scim.patch(made["id"], {"op": "replace", "path": "externalId", "value": "4712"}),
        scim.patch(made["id"], {"op": "remove", "path": "externalId"}),
        scim.call("PUT", f"/Users/{made['id']}", {"userName": "anna@example.org", "externalId": "4712"}),
        scim.patch(made["id"], {"op": "replace", "path": "id", "value": "7"}),
    ):
        assert (answer.status_code, answer.json()["scimType"]) == (400, "mutability"), answer.text


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"op": "replace", "path": "emails[", "value": "x"}, "invalidPath"),
    ({"op": "replace", "path": 7, "value": "x"}, "invalidPath"),
    ({"op": "remove"}, "noTarget"),
    ({"op": "move", "path": "active"}, "invalidSyntax"),
    ({"op": "replace", "path": "active"}, "invalidValue"),
    ({"op": "replace", "value": False}, "invalidValue"),
    ({"op": "replace", "path": "userName", "value": ""}, "invalidValue"),
    ({"op": "replace", "path": "userName", "value": "an\0na"}, "invalidValue"),
    ({"op": "replace", "path": "userName", "value": "\ud800"}, "invalidValue"),
    ({"op": "replace", "path": "displayName", "value": "x" * 1001}, "invalidValue"),
    ({"op": "remove", "path": "userName"}, "invalidValue"),
]


@pytest.mark.parametrize(("operation", "keyword"), WRONG)
def test_what_is_wrong_with_a_patch_is_told_in_scims_words(
    scim: Directory, learner_id: str, operation: dict[str, Any], keyword: str
) -> None:
    answer = scim.patch(learner_id, operation)
    assert (answer.status_code, answer.json().get("scimType")) == (400, keyword), answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]


def test_a_version_that_was_overtaken_is_refused(scim: Directory, world: World, learner_id: str) -> None:
    read = scim.call("GET", f"/Users/{learner_id}")
    tag = read.headers["etag"]
    assert tag == read.json()["meta"]["version"]
    assert scim.call("GET", f"/Users/{learner_id}", If_None_Match=tag).status_code == 304
    world.run("UPDATE lms.learners SET display_name = 'changed by the platform'")
    for answer in (
        scim.patch(learner_id, OFF, If_Match=tag),
        scim.call("PUT", f"/Users/{learner_id}", {"userName": "anna", "active": False}, If_Match=tag),
        scim.call("DELETE", f"/Users/{learner_id}", If_Match=tag),
    ):
        assert (answer.status_code, answer.json()["status"]) == (412, "412")
    assert world.active("anna")
    now = scim.call("GET", f"/Users/{learner_id}", If_None_Match=tag)
    assert now.status_code == 200
    assert scim.patch(learner_id, OFF, If_Match=now.headers["etag"]).status_code == 200


def test_two_deactivations_at_once_are_one_job(scim: Directory, world: World, learner_id: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: scim.patch(learner_id, OFF), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(jobs(world)) == 1


def test_of_two_users_made_at_once_under_one_name_one_is_made(scim: Directory, world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: scim.create(), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
    assert world.one("SELECT count(*) FROM lms.learners") == 1


def test_a_person_that_an_hr_system_has_told_of_before_gets_that_state(
    scim: Directory, world: World, db: Database, environment: Settings
) -> None:
    """The deactivation applies once the learner exists, though SCIM says nothing of it."""
    world.event(db, "deactivated", "4711")
    decide_due(db, environment)
    made = scim.create(externalId="4711", active=True)
    assert (made.status_code, made.json()["active"]) == (201, False)
    enrolment_id = world.enrolment("4711")
    remedies.redrive_known_learners(db)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert_balanced(db)


def test_a_user_can_be_made_inactive_from_the_start(scim: Directory, world: World) -> None:
    assert scim.create(active=False).json()["active"] is False
    assert jobs(world) == []


def test_another_organisations_users_do_not_exist(
    scim: Directory, world: World, bearer: Bearer, learner_id: str
) -> None:
    theirs = Directory(scim.client, bearer("scim", organisation_id=world.organisation("Other")))
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"userName": "a"}), ("PATCH", {"Operations": [OFF]})):
        here = theirs.call(method, f"/Users/{learner_id}", body)
        none = theirs.call(method, "/Users/999999", body)
        assert (here.status_code, here.text) == (404, none.text)
    assert theirs.names() == []
    assert theirs.create("anna").status_code == 201
    assert world.active("anna")


def test_no_name_and_no_address_in_logs(scim: Directory, world: World, learner_id: str) -> None:
    with structlog.testing.capture_logs() as entries:
        made = scim.create("renee@people.example", externalId="emp-70077", displayName="Renée Moreau").json()
        scim.patch(made["id"], OFF)
        scim.create("renee@people.example")
        scim.names("?filter=userName%20eq%20%22renee%40people.example%22")
        scim.call("DELETE", f"/Users/{made['id']}")
    said = repr(entries)
    assert {entry["event"] for entry in entries} >= {"user.created", "user.changed", "user.deleted"}
    assert not [word for word in ("renee", "Moreau", "70077") if word in said], said
