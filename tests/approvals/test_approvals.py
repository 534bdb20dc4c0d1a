"""Acts that need a second person: asked for, decided once, done in the same transaction, by another person."""

from typing import Any

import pytest

from schemas.control import BrakeSetting
from tests.approvals.office import ADA, EVE, ZOE, Office
from tests.support.racing import job_state
from tests.world import assert_balanced, decide_due
from worker.access import tokens
from worker.access.persons import Actor
from worker.errors import (
    BrakeError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OwnApprovalError,
    OwnJobError,
    SecondPersonNeededError,
)
from worker.jobs import brake, control


def asked(act: Any, *arguments: Any, **named: Any) -> int:
    """The approval that an act waits for."""
    with pytest.raises(SecondPersonNeededError) as refused:
        act(*arguments, **named)
    return refused.value.approval_id


def test_an_override_is_asked_for_and_done_once_a_second_person_approves(office: Office) -> None:
    office.rules(override=0)
    (letter,) = office.letters()
    approval = asked(office.resolve, [letter])
    assert (office.states(), asked(office.resolve, [letter])) == (["open"], approval), "the same request again"
    assert asked(office.resolve, [letter], ZOE) == approval, "nor does another person ask twice"
    found = office.show(approval)
    assert (found.state, found.act, found.size, found.reason) == ("pending", "override", 1, "agreed")
    assert found.alone_up_to == 0
    assert (found.subject, found.requested_by) == (f"dead letter {letter}", "token:ada")
    assert found.consequence == "Withdraws 1 learner although a Learning Pathway owns the enrolment."

    approved = office.approve(approval, note="seen")
    assert (approved.state, approved.decided_by, approved.decision_note) == ("approved", "token:eve", "seen")
    assert office.approve(approval) == approved, "asked again it is the same"
    decide_due(office.db, office.settings)
    assert office.states() == ["resolved"]
    assert office.audited() == [
        ("token:ada", "approval.ask"),
        ("token:ada", "dead_letter.override"),
        ("token:eve", "approval.approve"),
    ]
    assert_balanced(office.db)


@pytest.mark.parametrize("who", [ADA, Actor("cli:ada"), Actor("token:new", made_by="token:ada"), Actor("person:Ada#3")])
def test_nobody_decides_on_what_they_asked_for(office: Office, who: Actor) -> None:
    """Not by another name of theirs, nor through a token that they made."""
    office.rules(override=0)
    approval = asked(office.resolve, office.letters())
    for act in (office.approve, office.reject):
        with pytest.raises(OwnApprovalError, match="not a second person"):
            act(approval, who)
    assert office.show(approval).state == "pending"
    with pytest.raises(ConflictError, match="reject it"):
        office.withdraw(approval, EVE)
    assert office.withdraw(approval, who).state == "withdrawn"
    with pytest.raises(ConflictError, match="is withdrawn by"):
        office.approve(approval)
    assert office.states() == ["open"]


def test_a_rejection_says_why_and_makes_room_for_another_request(office: Office) -> None:
    office.rules(override=0)
    letters = office.letters()
    approval = asked(office.resolve, letters)
    with pytest.raises(InvalidInputError, match="note"):
        office.reject(approval, note=" ")
    assert office.reject(approval, note="not this one").decision_note == "not this one"
    again = asked(office.resolve, letters)
    assert again != approval
    office.world.force(
        "UPDATE withdrawals.approvals SET requested_at = requested_at - interval '8 days', expires_at = now() "
        "WHERE id = :id",
        id=again,
    )
    assert office.show(again).state == "expired"
    with pytest.raises(ConflictError, match="is expired"):
        office.approve(again)
    assert asked(office.resolve, letters) not in (approval, again)


CASES: list[tuple[dict[str, int | None], int, str, bool]] = [  # the rules; how many learners; the act; whether it waits
    ({}, 2, "override", False),
    ({"override": None}, 2, "override", False),
    ({"override": 2}, 2, "override", False),
    ({"override": 1}, 2, "override", True),
    ({"override": 0, "override__bulk": 2}, 2, "override", False),
    ({"override": None, "override__bulk": 1}, 2, "override", True),
    ({"override__hr": 0}, 2, "override", False),
    ({"override": 0}, 2, "cascade", False),
    ({"cascade": 1}, 2, "cascade", True),
    ({"override": 0}, 2, "keep", False),
    ({"override": 2}, 2, "run", False),
    ({"override": 1}, 2, "run", True),
    ({"lift": 0}, 1, "lift", True),
    ({"override": 0}, 1, "lift", False),
    ({"token": 0}, 1, "token", True),
    ({"token": 0}, 1, "viewer", False),
    # the brake holds everything from here on
    ({"release": 3}, 3, "release", False),
    ({"release": 2}, 3, "release", True),
    ({"release": 0, "release__bulk": None}, 3, "release", False),
    ({"release": 6}, 3, "release all", False),
    ({"release": 5}, 3, "release all", True),
]


def test_the_policies_say_by_act_source_and_size_what_waits(office: Office) -> None:
    """What waits is done once it is approved, and what does not wait is done at once."""
    for rules, count, act, waits in CASES:
        made = office.prepare(act, count)
        office.rules(**rules)
        if waits:
            approval = asked(office.perform, act, made)
            assert not office.is_done(act, made), (rules, act)
            assert office.approve(approval).size == (2 * count if act == "release all" else count), (rules, act)
        else:
            office.perform(act, made)
        assert office.is_done(act, made), (rules, act)
    assert_balanced(office.db)


def test_what_has_changed_since_is_not_approved(office: Office) -> None:
    """The approval goes on waiting; it can be rejected."""
    office.rules(override=0, cascade=0, release=0)
    first, second = office.letters(2)
    gone = asked(office.resolve, [first])
    office.rules(cascade=0, release=0)
    office.resolve([first], ZOE)
    decide_due(office.db, office.settings)
    with pytest.raises(ConflictError, match=r"has changed since|not open"):
        office.approve(gone)

    cascade = asked(office.resolve, [second], remedy="cascade")
    learner = office.world.one(
        "SELECT l.external_id FROM lms.learners l JOIN lms.enrolments e ON e.learner_id = l.id "
        "JOIN withdrawals.dead_letters d ON d.enrolment_id = e.id WHERE d.id = :id",
        id=second,
    )
    office.world.enrolment(learner, pathway_id=office.world.pathway())
    with pytest.raises(ConflictError, match=r"By now it does this: .* 1 other active enrolment of"):
        office.approve(cascade)

    job = office.held_job()
    release = asked(office.release, job)
    with pytest.raises(OwnJobError):
        office.release(job, Actor("test:admin"))
    control.cancel(office.db, **office.organisation, job_id=job.id, actor="test:x")
    with pytest.raises(ConflictError, match="nothing is held any more"):
        office.approve(release)
    assert [office.show(one).state for one in (gone, cascade, release)] == ["pending"] * 3
    with pytest.raises(NotFoundError):
        office.approve(release + 1)


def test_who_requested_a_job_cannot_approve_its_release_either(office: Office) -> None:
    office.rules(release=0)
    job = office.held_job()
    approval = asked(office.release, job)
    with pytest.raises(ConflictError, match="neither of you requested"):
        office.approve(approval, Actor("test:admin"))
    office.approve(approval)
    assert job_state(office.world, job.id) == "queued"


def test_the_brake_still_refuses_what_was_approved(office: Office) -> None:
    """Nothing is written then, and the same approval can be given later."""
    office.rules(override=0)
    approval = asked(office.resolve, office.letters())
    for floor, share in ((0, 0.0), (100, 0.0)):
        limits = BrakeSetting(floor=floor, share=share)
        brake.set_limits(office.db, **office.organisation, wanted=limits, actor="test:x")
        if floor == 0:
            with pytest.raises(BrakeError):
                office.approve(approval)
            assert office.show(approval).state == "pending"
    assert office.approve(approval).state == "approved"


def test_policies_are_changed_by_two_people_once_there_are_two(office: Office) -> None:
    rules = [{"act": "override", "source": "hr", "alone_up_to": 10}]
    alone = office.set_policies(ADA, rules=rules)
    assert [(rule.act, rule.source, rule.alone_up_to) for rule in alone.rules if rule.own] == [("override", "hr", 10)]
    with pytest.raises(InvalidInputError, match="already"):
        office.set_policies(ADA, rules=rules)
    own: dict[str, Any] = {"name": "ada 2", "role": "approver", "actor": "token:ada"}
    tokens.create(office.db, **office.organisation, **own)
    office.set_policies(ADA, rules=[])
    tokens.create(office.db, **office.organisation, name="eve", role="approver", actor="cli:root")

    approval = asked(office.set_policies, ADA, "audit", rules=rules)
    with pytest.raises(ConflictError, match=f"approval {approval} by token:ada waits with other rules"):
        office.set_policies(ZOE, rules=[{"act": "lift", "alone_up_to": 0}])
    office.approve(approval)
    after = asked(office.set_policies, ADA, rules=[])
    office.rules(token=0)
    with pytest.raises(ConflictError, match="policies have changed since"):
        office.approve(after)
    assert [who for who, action in office.audited() if action == "policies.set"] == ["token:ada"] * 3


def test_a_token_of_a_high_role_works_once_it_is_approved(office: Office) -> None:
    office.rules(token=0)
    new: dict[str, Any] = {"name": "boss", "role": "owner", "actor": "token:ada", "made_by": "cli:root"}
    with pytest.raises(tokens.TokenWaitsError) as waits:
        tokens.create(office.db, **office.organisation, **new)
    assert tokens.authenticate(office.db, waits.value.secret) is None
    assert waits.value.secret not in str(office.show(waits.value.approval_id))
    with pytest.raises(ConflictError, match="waits for a token 'boss' already"):
        tokens.create(office.db, **office.organisation, **new)
    office.approve(waits.value.approval_id)
    found = tokens.authenticate(office.db, waits.value.secret)
    assert found is not None
    assert (found.role, found.created_by) == ("owner", "token:ada")
