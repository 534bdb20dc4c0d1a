"""The brake over HTTP: its window, and limits that two people change."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas.brake import LimitRequest
from tests.world import World
from worker.access import tokens
from worker.access.persons import Actor
from worker.database import Database
from worker.errors import ConflictError, OwnProposalError
from worker.jobs import brake, limits

Bearer = Callable[..., dict[str, str]]
LIMITS = {"floor": 7, "share": 0.5, "note": "a merger"}


def propose(client: TestClient, owner: dict[str, str], **wanted: Any) -> dict[str, Any]:
    answer = client.put("/v1/brake", headers=owner, json={**LIMITS, **wanted})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()["proposal"]
    return found


def decide(client: TestClient, who: dict[str, str], act: str, proposal: dict[str, Any], **body: Any) -> Any:
    return client.post(f"/v1/brake/proposals/{proposal['id']}/{act}", headers=who, json=body or None)


def test_limits_apply_once_a_second_person_has_approved_them(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    owner, approver, viewer = bearer("owner", name="Ada"), bearer("approver", name="Bea"), bearer("viewer")
    job = world.submit(db, world.enrolments(2))
    proposal = propose(client, owner, note="a reorganisation")
    shown = client.get("/v1/brake", headers=viewer).json()
    assert (shown["own"], shown["volume"], shown["proposal"]) == ([], 2, proposal)
    assert [(one["job_id"], one["learners"]) for one in shown["used_by"]] == [(job.id, 2)]
    approved = decide(client, approver, "approve", proposal, note="seen").json()
    assert (approved["state"], approved["decided_by"], approved["decision_note"]) == ("approved", "token:Bea", "seen")
    assert decide(client, approver, "approve", proposal).json() == approved, "asked again it is the same"
    now = client.get("/v1/brake", headers=viewer).json()
    assert (now["floor"], now["share"], now["hours"], now["own"]) == (7, 0.5, 24, ["floor", "share"])
    assert (now["limit"], now["proposal"]) == (7, None)
    rows = world.run(
        "SELECT actor, action, note, detail FROM withdrawals.audit WHERE action LIKE 'brake.%' ORDER BY id"
    )
    assert [tuple(row)[:3] for row in rows] == [
        ("token:Ada", "brake.propose", "a reorganisation"),
        ("token:Bea", "brake.set", "seen"),
    ]
    assert rows[1].detail["before"] == {"floor": None, "share": None, "hours": None}
    assert rows[1].detail["after"] == {"floor": 7, "share": 0.5, "hours": None}
    assert client.get("/v1/brake/proposals", headers=viewer).json()["items"] == [approved]


def test_nobody_decides_on_what_they_proposed(client: TestClient, bearer: Bearer, db: Database, world: World) -> None:
    owner = bearer("owner", name="Ada")
    proposal = propose(client, owner)
    made = tokens.create(
        db, organisation_id=world.organisation_id, name="Ada 2", role="approver", actor="token:Ada"
    ).secret
    for who in (owner, {"Authorization": f"Bearer {made}"}):
        for act, body in (("approve", {}), ("reject", {"note": "no"})):
            answer = decide(client, who, act, proposal, **body)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:withdrawals:problem:own_proposal")
    assert client.get("/v1/brake", headers=owner).json()["proposal"] == proposal


@pytest.mark.parametrize(
    ("proposer", "other", "same"),
    [
        (Actor("token:ada"), Actor("token:ADA"), True),
        (Actor("cli:ada"), Actor("token:ada"), True),
        (Actor("token:ada"), Actor("token:bea", "token:ada"), True),
        (Actor("token:ada", "cli:bea"), Actor("cli:bea"), True),
        (Actor("token:ada", "cli:root"), Actor("token:bea", "cli:root"), False),
        (Actor("token:ada"), Actor("token:ada2"), False),
        (Actor("ada"), Actor("bea"), False),
    ],
)
def test_two_names_are_one_person_where_the_records_tell(proposer: Actor, other: Actor, same: bool) -> None:
    assert proposer.is_known_to_be(other) is other.is_known_to_be(proposer) is same


def test_a_rejection_says_why_and_makes_room_for_another_proposal(client: TestClient, bearer: Bearer) -> None:
    owner, approver = bearer("owner"), bearer("approver")
    proposal = propose(client, owner)
    for body in ({}, {"note": " "}, {"note": "\0"}):
        assert decide(client, approver, "reject", proposal, **body).status_code == 422
    rejected = decide(client, approver, "reject", proposal, note="too many").json()
    assert (rejected["state"], rejected["decision_note"]) == ("rejected", "too many")
    assert decide(client, approver, "approve", proposal).status_code == 409
    assert client.get("/v1/brake", headers=owner).json()["own"] == []
    assert propose(client, owner)["id"] != proposal["id"]


def test_a_proposal_is_taken_back_by_its_proposer_alone(client: TestClient, bearer: Bearer) -> None:
    owner, other = bearer("owner"), bearer("owner")
    proposal = propose(client, owner)
    assert decide(client, other, "withdraw", proposal).status_code == 409
    assert decide(client, owner, "withdraw", proposal).json()["state"] == "withdrawn"
    assert decide(client, other, "approve", proposal).status_code == 409


def test_one_proposal_waits_at_a_time_and_the_same_one_is_not_made_twice(client: TestClient, bearer: Bearer) -> None:
    owner, other = bearer("owner"), bearer("owner")
    proposal = propose(client, owner)
    assert propose(client, owner) == proposal
    for who, wanted in ((other, LIMITS), (owner, {"floor": 8, "note": "why"})):
        answer = client.put("/v1/brake", headers=who, json=wanted)
        assert answer.status_code == 409
        assert str(proposal["id"]) in answer.json()["detail"]
    decide(client, other, "approve", proposal)
    assert client.put("/v1/brake", headers=owner, json=LIMITS).status_code == 422, "these are the limits already"


def test_a_proposal_expires(client: TestClient, bearer: Bearer, world: World) -> None:
    owner, other = bearer("owner"), bearer("owner")
    proposal = propose(client, owner)
    week = datetime.fromisoformat(proposal["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6) < week <= timedelta(days=7)
    world.run(
        "UPDATE withdrawals.limit_proposals SET proposed_at = now() - interval '8 days', expires_at = now()"
    )  # fmt: skip
    for act, who in (("approve", other), ("withdraw", owner)):
        assert decide(client, who, act, proposal).status_code == 409
    shown = client.get("/v1/brake/proposals", headers=owner).json()["items"]
    assert [one["state"] for one in shown] == ["expired"]
    assert client.get("/v1/brake", headers=owner).json()["proposal"] is None
    assert propose(client, owner)["state"] == "pending"


def test_a_wrong_limit_is_refused_and_named(client: TestClient, bearer: Bearer) -> None:
    owner = bearer("owner")
    for body in ({"floor": -1}, {"share": 1.5}, {"share": "a lot"}, {"hours": 0}, {"floor": 10**13}, {"limit": 1}):
        assert client.put("/v1/brake", headers=owner, json=body).status_code == 422, body


def test_a_proposal_of_another_organisation_does_not_exist(client: TestClient, bearer: Bearer, world: World) -> None:
    proposal = propose(client, bearer("owner"))
    elsewhere = bearer("owner", organisation_id=world.organisation("Other"))
    for act, body in (("approve", {}), ("reject", {"note": "x"}), ("withdraw", {})):
        assert decide(client, elsewhere, act, proposal, **body).status_code == 404
    assert client.get("/v1/brake/proposals", headers=elsewhere).json()["items"] == []


def test_a_job_that_is_held_stays_held_under_new_limits(
    client: TestClient, bearer: Bearer, db: Database, world: World
) -> None:
    owner, approver = bearer("owner"), bearer("approver")
    decide(client, approver, "approve", propose(client, owner, floor=1, share=0.0))
    held = world.submit(db, world.enrolments(2))
    assert held.state == "held"
    decide(client, approver, "approve", propose(client, owner, floor=5, share=0.0))
    assert client.get(f"/v1/jobs/{held.id}", headers=owner).json()["state"] == "held"
    assert world.submit(db, world.enrolments(2)).state == "queued"


def test_an_error_leaves_limits_and_proposal_as_they_were(db: Database, world: World) -> None:
    org = world.organisation_id
    proposal = limits.propose(db, organisation_id=org, wanted=LimitRequest(floor=3, note="why"), who=Actor("ada"))
    with pytest.raises(OwnProposalError):
        limits.approve(db, organisation_id=org, proposal_id=proposal.id, who=Actor("ada"))
    limits.reject(db, organisation_id=org, proposal_id=proposal.id, who=Actor("bea"), note="no")
    with pytest.raises(ConflictError, match="rejected by bea"):
        limits.approve(db, organisation_id=org, proposal_id=proposal.id, who=Actor("carl"))
    assert brake.show(db, organisation_id=org).own == []
