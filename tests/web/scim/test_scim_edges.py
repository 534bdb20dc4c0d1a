"""What happens at once, what is sent on purpose to break it, and what must not be lost in silence."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from tests.web.scim.conftest import Directory
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.people import scim_users

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
OFF = {"op": "replace", "path": "active", "value": False}


def test_of_patches_at_once_with_one_version_one_is_taken(scim: Directory, learner_id: str) -> None:
    tag = scim.call("GET", f"/Users/{learner_id}").headers["etag"]

    def rename(number: int) -> int:
        name = {"op": "replace", "path": "displayName", "value": f"Anna {number}"}
        return scim.patch(learner_id, name, If_Match=tag).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(rename, range(4))) == [200, 412, 412, 412]


def test_a_deactivation_against_a_webhook_that_reactivates_leaves_one_state(
    scim: Directory, world: World, db: Database, environment: Settings, learner_id: str
) -> None:
    """Whichever commits first: `active`, the enrolment and the job tell the same story."""
    enrolment_id = world.enrolment("anna")
    with ThreadPoolExecutor(2) as pool:
        patched = pool.submit(scim.patch, learner_id, OFF)
        told = pool.submit(world.event, db, "reactivated", "anna")
        assert (patched.result().status_code, told.result().status) in {(200, "reactivated"), (200, "ignored")}
    decide_due(db, environment)
    state = world.one("SELECT state FROM withdrawals.jobs")
    expected = ("in_progress", "superseded") if world.active("anna") else ("withdrawn", "completed")
    assert (world.status(enrolment_id), state) == expected
    assert_balanced(db)


def test_one_revived_as_inactive_is_inactive_though_hr_had_brought_them_back(
    scim: Directory, world: World, db: Database, environment: Settings, learner_id: str
) -> None:
    scim.call("DELETE", f"/Users/{learner_id}")
    world.event(db, "reactivated", "anna")
    assert world.active("anna")
    enrolment_id = world.enrolment("anna")
    made = scim.create(externalId="anna", active=False)
    assert (made.status_code, made.json()["active"]) == (201, False)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert_balanced(db)


def test_the_name_of_a_learner_without_an_address_is_taken_too(scim: Directory, learner_id: str) -> None:
    other = scim.create("ben@example.org").json()
    answers = [
        scim.create("anna", externalId="another"),
        scim.patch(other["id"], {"op": "replace", "path": "userName", "value": "anna"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness"), answer.text
    assert scim.names("?filter=userName%20eq%20%22anna%22") == ["anna"]


@pytest.mark.parametrize("path", [None, USER])
def test_the_schema_as_a_container_is_not_ignored(
    scim: Directory, world: World, learner_id: str, path: str | None
) -> None:
    value = {"active": False, USER: {"displayName": "not within itself"}}
    operation = {"op": "replace", "path": path, "value": value} if path else {"op": "replace", "value": {USER: value}}
    answer = scim.patch(learner_id, operation)
    assert (answer.status_code, answer.json()["active"]) == (200, False), answer.text
    assert "displayName" not in answer.json()
    assert not world.active("anna")


def test_half_a_surrogate_pair_in_a_name_is_no_500(scim: Directory) -> None:
    answer = scim.call("POST", "/Users", {"userName": "anna", "\ud800a": 1, "\ud800A": 2})
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")


def test_another_spelling_of_a_name_is_checked_too(scim: Directory, learner_id: str) -> None:
    """The library takes `user_name` for `userName`."""
    answers = [
        scim.call("POST", "/Users", {"user_name": "an\0na"}),
        scim.patch(learner_id, {"op": "replace", "path": "display_name", "value": "an\0na"}),
        scim.patch(learner_id, {"op": "replace", "value": {"Display_Name": ["Anna"]}}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue"), answer.text


def test_a_database_that_cannot_be_reached_is_told_in_scims_form(
    scim: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("", {}, psycopg.OperationalError("gone"))

    monkeypatch.setattr(scim_users, "create", gone)
    answer = scim.create()
    assert (answer.status_code, answer.json()["status"]) == (503, "503")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/scim+json"


@pytest.mark.parametrize("act", ["change", "delete", "create"])
def test_a_lost_answer_to_the_commit_is_found_and_not_taken_for_somebody_elses(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The whole of a call is repeated after its commit, as when the connection went away with the answer."""

    def twice(work: Any, **_: Any) -> Any:
        for _again in range(2):
            with db.begin() as connection:
                done = work(connection)
        return done

    learner_id, seen = world.learner("anna"), iter([True, False])
    monkeypatch.setattr(db, "run", twice)
    who: dict[str, Any] = {"organisation_id": world.organisation_id, "actor": "token:okta"}
    if act == "create":
        scim_users.create(db, wanted=scim_users.UserAttributes("ben@example.org", "ben", None, active=True), **who)
        return
    about = {**who, "learner_id": learner_id, "is_expected": lambda _: next(seen)}
    if act == "delete":
        scim_users.delete(db, **about)
    else:
        scim_users.change(db, wanted=lambda user: replace(user, active=False), **about)
    assert not world.active("anna")
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1


def test_active_twice_or_by_a_part_is_refused_and_deactivates_nobody(
    scim: Directory, world: World, learner_id: str
) -> None:
    twice: dict[str, Any] = {"op": "replace", "value": {"active": True, "Active": False}}
    spellings: list[dict[str, Any]] = [{"op": "replace", "path": path, "value": 1} for path in (" active", "ACTIVE ")]
    parts: list[dict[str, Any]] = [{**OFF, "path": path} for path in ("active[x eq 1]", "active.value")]
    parts.append({"op": "replace", "value": {"active.value": False}})
    for operation in (twice, *parts, *spellings):
        assert scim.patch(learner_id, operation).status_code == 400
    assert world.active("anna")


@pytest.mark.parametrize("value", [0, "0", None, "no"])
def test_a_value_that_equals_the_present_one_is_read_strictly_too(
    scim: Directory, world: World, learner_id: str, value: Any
) -> None:
    """In Python `0 == False`: what says nothing new must still be a boolean."""
    scim.patch(learner_id, OFF)
    for operation in ({**OFF, "value": value}, {"op": "replace", "value": {USER: {"active": value}}}):
        answer = scim.patch(learner_id, operation)
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue"), answer.text


def test_a_learner_that_scim_would_not_create_can_be_read_and_deactivated(
    scim: Directory, world: World, learner_id: str
) -> None:
    """The limits of a write are not those of the platform."""
    world.run("UPDATE lms.learners SET display_name = repeat('x', 2000), email = repeat('y', 400)")
    assert len(scim.call("GET", f"/Users/{learner_id}").json()["displayName"]) == 2000
    assert scim.names() == ["y" * 400]
    assert scim.patch(learner_id, OFF).json()["active"] is False
    assert not world.active("anna")


def test_the_removal_of_what_is_not_stored_keeps_the_rest_of_a_patch(
    scim: Directory, world: World, learner_id: str
) -> None:
    """Entra ID sends such a removal with a value; the deactivation beside it must be done."""
    emails = {"op": "Remove", "path": 'emails[type eq "work"]', "value": [{"value": "anna@example.org"}]}
    assert scim.patch(learner_id, emails, OFF).status_code == 200
    assert not world.active("anna")


def test_a_put_may_name_the_schema_before_an_attribute(scim: Directory, world: World, learner_id: str) -> None:
    put = scim.call("PUT", f"/Users/{learner_id}", {"userName": "anna", f"{USER}:active": "False"})
    assert (put.status_code, put.json()["active"]) == (200, False), put.text
    assert not world.active("anna")


def test_a_newer_event_of_another_source_is_told_and_not_taken_for_done(
    scim: Directory, world: World, db: Database, learner_id: str
) -> None:
    """Its clock may go minutes ahead; a success that has changed nothing would be believed."""
    enrolment_id = world.enrolment("anna")
    soon = world.one("SELECT now() + interval '4 minutes'")
    world.event(db, "reactivated", "anna", occurred_at=soon)
    for answer in (scim.patch(learner_id, OFF), scim.call("DELETE", f"/Users/{learner_id}")):
        assert (answer.status_code, "scimType" in answer.json()) == (409, False)
    assert scim.call("GET", f"/Users/{learner_id}").json()["active"] is True
    assert world.status(enrolment_id) == "in_progress"


@pytest.mark.parametrize("first", ["deleted by SCIM", "deactivated by SCIM", "deactivated by an HR system"])
def test_a_user_whose_row_the_platform_deleted_is_revived_by_a_post(
    scim: Directory, world: World, db: Database, environment: Settings, first: str
) -> None:
    """SCIM had created this person, so its new POST is a reactivation, as after a DELETE of its own."""
    made = scim.create(externalId="4711").json()
    if first == "deleted by SCIM":
        scim.call("DELETE", f"/Users/{made['id']}")
    elif first == "deactivated by SCIM":
        scim.patch(made["id"], OFF)
    else:
        world.event(db, "deactivated", "4711")
    decide_due(db, environment)
    world.run("DELETE FROM lms.learners")
    again = scim.create(externalId="4711")
    assert (again.status_code, again.json()["active"]) == (201, True)
    enrolment_id = world.enrolment("4711")
    decide_due(db, environment)
    assert (world.active("4711"), world.status(enrolment_id)) == (True, "in_progress")
    assert_balanced(db)


def test_a_revived_user_is_refused_while_another_sources_event_is_newer(
    scim: Directory, world: World, db: Database
) -> None:
    scim.create(externalId="4711")
    world.event(db, "deactivated", "4711", occurred_at=world.one("SELECT now() + interval '4 minutes'"))
    world.run("DELETE FROM lms.learners")
    assert scim.create(externalId="4711").status_code == 409
    assert world.run("SELECT 1 FROM lms.learners") == [], "nothing was created"


@pytest.mark.parametrize("act", ["PATCH", "PUT", "DELETE", "POST"])
def test_an_active_that_the_platform_does_not_change_is_an_error(scim: Directory, world: World, act: str) -> None:
    """A trigger of the platform keeps the old value: a success would be believed."""
    made = scim.create(externalId="4711").json()
    if act == "POST":
        scim.call("DELETE", f"/Users/{made['id']}")
    before = world.active("4711")
    world.run(
        """CREATE FUNCTION lms.keep_active() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW.active := OLD.active; RETURN NEW; END'"""
    )
    world.run(
        """CREATE TRIGGER keep_active BEFORE UPDATE OF active ON lms.learners
            FOR EACH ROW EXECUTE FUNCTION lms.keep_active()"""
    )
    body = {
        "PATCH": {"Operations": [OFF]},
        "PUT": {"userName": "anna@example.org", "active": False},
        "POST": {"userName": "anna@example.org", "externalId": "4711"},
        "DELETE": None,
    }[act]
    answer = scim.call(act, "/Users" if act == "POST" else f"/Users/{made['id']}", body)
    assert (answer.status_code, "scimType" in answer.json()) == (409, False)
    assert world.active("4711") is before
    assert world.run("SELECT 1 FROM withdrawals.jobs") == ([] if act != "POST" else [(1,)]), "rolled back whole"
