"""Bearer tokens: shown once, stored as a hash, bound to an organisation and a role."""

from collections.abc import Callable
from datetime import datetime
from itertools import product

import pytest
from starlette.testclient import TestClient

from schemas.catalogue import Role
from tests.world import World, eventually
from worker.access import tokens
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError

Bearer = Callable[..., dict[str, str]]


def make(db: Database, world: World, name: str = "HR", role: str = "viewer") -> tokens.NewToken:
    return tokens.create(db, organisation_id=world.organisation_id, name=name, role=role, actor="test:approver")


def test_the_database_does_not_store_the_secret(db: Database, world: World) -> None:
    made = make(db, world)
    secret = made.secret.split("_", 2)[2]
    (row,) = world.run("SELECT t::text FROM withdrawals.tokens t")
    assert secret not in row[0]
    assert secret.encode().hex() not in row[0]
    assert tokens.authenticate(db, made.secret) is not None


def test_a_token_shows_when_it_was_last_used(db: Database, world: World) -> None:
    made = make(db, world)
    assert made.token.last_used_at is None
    tokens.authenticate(db, made.secret)

    def last_used() -> datetime | None:
        (known,) = tokens.list_tokens(db, organisation_id=world.organisation_id)
        return known.last_used_at

    eventually(last_used)


@pytest.mark.parametrize("harm", ["", "x", "truncated", "another secret", "another selector", "two lines"])
def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(
    client: TestClient, db: Database, world: World, harm: str
) -> None:
    good, other = make(db, world).secret, make(db, world, "other").secret
    *start, secret = good.split("_", 2)  # the secret may have an underscore of its own
    *other_start, other_secret = other.split("_", 2)
    harmed = {
        "truncated": good[:-1],
        "another secret": "_".join([*start, other_secret]),
        "another selector": "_".join([*other_start, secret]),
        "two lines": f"{good} {good}",
    }.get(harm, harm)
    answers = [client.get("/v1/jobs"), client.get("/v1/jobs", headers={"Authorization": f"Bearer {harmed}"})]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {good}"}).status_code == 200


def test_a_revoked_token_ends_at_once_and_frees_its_name(client: TestClient, db: Database, world: World) -> None:
    made = make(db, world)
    with pytest.raises(ConflictError, match="name"):
        make(db, world)
    tokens.revoke(db, organisation_id=world.organisation_id, token_id=made.token.id, actor="test:approver")
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {made.secret}"}).status_code == 401
    again = make(db, world)
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {again.secret}"}).status_code == 200


def test_another_organisations_token_is_answered_like_an_unknown_one(db: Database, world: World) -> None:
    made = make(db, world)
    with pytest.raises(NotFoundError):
        tokens.revoke(db, organisation_id=world.organisation("Other"), token_id=made.token.id, actor="test:approver")


@pytest.mark.parametrize(("name", "role", "named"), [("", "viewer", "name"), ("x" * 101, "viewer", "name")])
def test_a_wrong_field_of_a_new_token_is_named(db: Database, world: World, name: str, role: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        make(db, world, name, role)
    with pytest.raises(InvalidInputError, match="role"):
        make(db, world, "good", "admin")


def test_each_role_includes_those_before_it_and_machines_stand_apart() -> None:
    ranked = [Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.OWNER]
    for one, other in product(ranked, ranked):
        assert one.includes(other) == (ranked.index(one) >= ranked.index(other))
    assert [role for role in Role if role.includes(Role.PRODUCER)] == [Role.PRODUCER, *ranked[1:]]
    assert [role for role in Role if role.includes(Role.SCIM)] == [Role.SCIM]
    assert [role for role in Role if Role.PRODUCER.includes(role)] == [Role.PRODUCER]
    assert [role for role in Role if Role.SCIM.includes(role)] == [Role.SCIM]


def test_a_viewer_reads_and_submits_nothing(client: TestClient, bearer: Bearer, world: World) -> None:
    body = {"reason": "not_required", "enrolment_ids": world.enrolments(1)}
    viewer = {**bearer("viewer"), "Idempotency-Key": "k"}
    assert client.post("/v1/jobs", headers=viewer, json=body).status_code == 403
    assert client.post("/v1/jobs/plan", headers=viewer, json=body).status_code == 403
    assert client.get("/v1/jobs", headers=viewer).json()["items"] == []


def test_an_owner_is_stored_as_an_approver_whom_older_versions_know(db: Database, world: World) -> None:
    made = make(db, world, "Ada", "owner")
    assert tokens.authenticate(db, made.secret) == made.token
    assert made.token.role is Role.OWNER
    rows = world.run("SELECT role, owner FROM withdrawals.tokens WHERE id = :id", id=made.token.id)
    assert [tuple(row) for row in rows] == [("approver", True)]


def test_a_refused_call_names_the_role_that_it_needs(client: TestClient, bearer: Bearer) -> None:
    answer = client.get("/v1/jobs", headers=bearer("scim"))
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:withdrawals:problem:forbidden"
    assert "producer" in answer.json()["detail"]


def test_a_producer_reads_its_own_jobs_and_no_organisation_reads_anothers(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    job = world.submit(db, world.enrolments(1))
    assert client.get(f"/v1/jobs/{job.id}", headers=bearer("viewer")).json()["id"] == job.id
    elsewhere = bearer("approver", organisation_id=world.organisation("Other"))
    for headers in (bearer("producer"), elsewhere):
        assert client.get("/v1/jobs", headers=headers).json() == {"items": [], "next_cursor": None}
        theirs = client.get(f"/v1/jobs/{job.id}", headers=headers)
        none = client.get("/v1/jobs/999999", headers=headers)
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace(str(job.id), "999999") == none.text


@pytest.mark.parametrize("name", ["hr", "\uff28\uff32", "HR\u200b", "HR\x1b[31m"])
def test_no_two_tokens_look_alike(db: Database, world: World, name: str) -> None:
    """Nobody must release their own job under a name that looks like another person's."""
    make(db, world, "HR")
    with pytest.raises((ConflictError, InvalidInputError), match="name"):
        make(db, world, name)
