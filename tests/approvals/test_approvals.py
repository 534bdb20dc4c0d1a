"""Acts that need a second person: asked for, decided once, done in the same transaction, by another person."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from schemas.answers import Released
from schemas.brake import LimitRequest
from schemas.catalogue import Role
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterFilter
from tests.approvals.office import ADA, EVE, ZOE, Office
from tests.support.racing import job_state
from tests.world import assert_balanced, decide_due
from worker.access import tokens
from worker.access.persons import Actor, member_actor
from worker.access.sessions import Limits, MemberSignIn, sign_in_member
from worker.dead_letters import runs
from worker.errors import (
    BrakeError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    OwnApprovalError,
    OwnJobError,
    SecondPersonNeededError,
)
from worker.jobs import brake, control, limits, releases
from worker.ledger import approvals as ledger_approvals
from worker.ledger import control as ledger
from worker.ledger import runs as ledger_runs
from worker.records import Job


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
    assert (found.subject, found.requested_by) == (f"letter {letter}", "token:ada")
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
        office.world.run("DELETE FROM withdrawals.acts_alone")  # each as if nothing had been done before
        if waits:
            approval = asked(office.perform, act, made)
            assert not office.is_done(act, made), (rules, act)
            assert office.approve(approval).size == (2 * count if act == "release all" else count), (rules, act)
        else:
            office.perform(act, made)
        assert office.is_done(act, made), (rules, act)
    assert_balanced(office.db)


def test_a_large_act_in_parts_is_as_large(office: Office) -> None:
    """In the brake's window, by whatever token of the person; the second person's approval and another act count no
    more, and somebody else begins anew."""
    letters, of_eve = office.letters(6), office.letters(3)
    office.rules(override=3, cascade=3)
    office.resolve(letters[:2])
    office.resolve(letters[2:3])
    with pytest.raises(SecondPersonNeededError, match="its size is 1, one person alone may do 3 within"):
        office.resolve(letters[3:4])
    asked_by_token = Actor("token:other", made_by=ADA.name)
    with pytest.raises(SecondPersonNeededError):
        office.resolve(letters[4:5], asked_by_token)
    office.resolve(of_eve, Actor("token:fay", made_by="cli:other"))
    office.world.run("UPDATE withdrawals.acts_alone SET at = at - interval '25 hours'")
    office.resolve(letters[5:])
    assert [row.size for row in office.world.run("SELECT size FROM withdrawals.acts_alone ORDER BY id")] == [2, 1, 3, 1]
    decide_due(office.db, office.settings)
    assert office.states() == ["resolved"] * 3 + ["open"] * 2 + ["resolved"] * 4
    assert_balanced(office.db)


def test_sources_together_are_no_way_past_the_rule_for_all(office: Office) -> None:
    """A rule without a source is about what has no rule of its own, in sum."""
    first, second = office.held_job(), office.held_job()
    office.world.force("UPDATE withdrawals.jobs SET source = 'support' WHERE id = :id", id=second.id)
    office.rules(release=5)
    asked(office.perform, "release all", [first, second])
    office.rules(release=3, release__support=3)
    office.perform("release all", [first, second])
    assert office.is_done("release all", [first, second])


def test_a_release_by_filter_under_a_rule_releases_the_jobs_that_were_counted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that is held meanwhile; and sent again, because the answer of its commit was lost, it counts the same."""
    first, later = office.held_job(), list[Job]()
    office.rules(release=3)
    find = ledger.list_held

    def find_and_go_on(*given: Any, **named: Any) -> list[ledger.HeldJob]:
        found = find(*given, **named)
        later.extend([] if later else [office.held_job()])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "list_held", find_and_go_on)
        patch.setattr(office.db, "run", partial(twice, office.db.run))
        assert office.perform("release all", [first]) == Released(released=1, own=0)
    assert [job_state(office.world, job.id) for job in (first, *later)] == ["queued", "held"]
    office.held_job()
    asked(office.perform, "release all", later)
    monkeypatch.setattr(releases, "MOST", 1)
    for rules in ({"release": 6}, {"release": 5}):
        office.rules(**rules)
        with pytest.raises(InvalidInputError, match="Narrow the filter"):
            office.perform("release all", later)
    office.rules(release=None)
    assert office.perform("release all", later) == Released(released=2, own=0), "no rule limits it"
    assert_balanced(office.db)


def twice(run: Callable[..., Any], work: Callable[..., Any], **how: Any) -> Any:
    """As if the answer of every first commit was lost."""
    run(work, **how)
    return run(work, **how)


def test_a_run_that_ends_while_it_is_asked_for_lets_no_other_begin(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = office.letters(2)
    office.perform("run", letters)
    run = office.world.one("SELECT id FROM withdrawals.runs")
    assert office.is_done("run", letters)
    office.rules(override=0)
    looks = iter([run])
    monkeypatch.setattr(ledger_runs, "find_unfinished_over", lambda *_: next(looks, None))
    office.perform("run", letters)
    assert office.world.one("SELECT count(*) FROM withdrawals.runs") == 1


def test_a_run_under_a_rule_takes_the_letters_that_were_counted_or_does_not_begin(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more that matches by now, or as many of another source: it is asked again."""
    first, second = office.letters()[0], office.letters()[0]
    office.world.force(
        "UPDATE withdrawals.jobs SET source = 'support' WHERE id = (SELECT job_id FROM withdrawals.dead_letters "
        "WHERE id = :id)",
        id=second,
    )
    count = ledger_approvals.count_letters
    assigned: list[list[int]] = []

    def assign(ids: list[int]) -> None:
        office.world.run(
            "UPDATE withdrawals.dead_letters SET assignee = CASE WHEN id = ANY(:ids) THEN 'ada' END", ids=ids
        )

    def count_and_go_on(*given: Any) -> dict[str | None, int]:
        found = count(*given)
        assign(assigned.pop())
        return found

    monkeypatch.setattr(ledger_approvals, "count_letters", count_and_go_on)
    start = partial(runs.start, office.db, **office.organisation, act="override", wanted=LetterFilter(assignee="ada"))
    begin = partial(start, actor=ADA.name, made_by=ADA.made_by, door="api", note="agreed")
    changes: list[tuple[dict[str, int], list[int]]] = [
        ({"override": 1}, [first, second]), ({"override__support": 0}, [second]),
    ]  # fmt: skip
    for rules, after in changes:
        office.rules(**rules)
        assign([first])
        assigned.append(after)
        with pytest.raises(ConflictError, match="Other letters match"):
            begin()
        assert office.world.one("SELECT count(*) FROM withdrawals.runs") == 0
        assigned.append(after)
        asked(begin)
    office.rules(override=2)
    assign([first, second])
    assigned.append([first, second])
    assert begin().letters == 2


def test_what_a_revoked_token_or_a_lowered_member_asked_for_is_not_approved(office: Office) -> None:
    office.rules(override=0)
    approval = asked(office.resolve, office.letters())
    tokens.revoke(office.db, **office.organisation, token_id=office.ada_id, actor="cli:root")
    with pytest.raises(ConflictError, match="may not ask for it any more"):
        office.approve(approval)
    for role, made_by in (("operator", "cli:root"), ("owner", "cli:somebody else")):
        new = tokens.create(office.db, **office.organisation, name="ada", role=role, actor=made_by)
        with pytest.raises(ConflictError, match="may not ask for it any more"):
            office.approve(approval)
        tokens.revoke(office.db, **office.organisation, token_id=new.token.id, actor="cli:root")
    tokens.create(office.db, **office.organisation, name="ada", role="approver", actor="cli:root")
    assert office.approve(approval).state == "approved", "the same person has a new token"

    member = sign_in(office, Role.APPROVER)
    approval = asked(office.resolve, office.letters(), member)
    office.world.force("DELETE FROM withdrawals.sessions")
    sign_in(office, Role.OPERATOR)
    with pytest.raises(ConflictError, match="may not ask for it any more"):
        office.approve(approval)
    assert office.reject(approval).state == "rejected"
    approval = asked(office.resolve, office.letters(), member)
    office.world.force("DELETE FROM withdrawals.sessions")
    assert office.approve(approval).state == "approved", "who has gone home has lost no role"


def test_limits_whose_proposer_may_propose_no_more_are_not_approved(office: Office) -> None:
    """An approver's role is not enough: they could not propose them."""

    def propose(who: Actor, floor: int) -> int:
        wanted = LimitRequest(floor=floor, note="why")
        return limits.propose(office.db, **office.organisation, wanted=wanted, who=who).id

    approve = partial(limits.approve, office.db, **office.organisation, who=EVE)
    proposal = propose(ADA, 7)
    tokens.revoke(office.db, **office.organisation, token_id=office.ada_id, actor="cli:root")
    new: dict[str, Any] = {"name": "ada", "actor": "cli:root"}
    with pytest.raises(ConflictError, match=f"proposal {proposal} was asked for by token:ada, who may not"):
        approve(proposal_id=proposal)
    lower = tokens.create(office.db, **office.organisation, role="approver", **new)
    with pytest.raises(ConflictError, match="may not ask for it any more"):
        approve(proposal_id=proposal)
    tokens.revoke(office.db, **office.organisation, token_id=lower.token.id, actor="cli:root")
    tokens.create(office.db, **office.organisation, role="owner", **new)
    assert approve(proposal_id=proposal).state == "approved"

    proposal = propose(sign_in(office, Role.OWNER), 9)
    office.world.force("DELETE FROM withdrawals.sessions")
    sign_in(office, Role.APPROVER)
    with pytest.raises(ConflictError, match="may not ask for it any more"):
        approve(proposal_id=proposal)
    assert brake.show(office.db, **office.organisation).floor == 7
    rejected = limits.reject(office.db, **office.organisation, proposal_id=proposal, who=EVE, note="ask again")
    assert rejected.state == "rejected"


def sign_in(office: Office, role: Role, *, subject: str = "bob", name: str = "Bob") -> Actor:
    """A member who has signed in with a provider."""
    who = MemberSignIn(
        **office.organisation, issuer="https://id.example", subject=subject, name=name, email=None, role=role,
        provider_session=None,
    )  # fmt: skip
    sign_in_member(office.db, who, limits=Limits.of(office.settings))
    member = office.world.one("SELECT id FROM withdrawals.members WHERE subject = :subject", subject=subject)
    return Actor(member_actor(name, member))


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
        tokens.create(office.db, **office.organisation, **new, note="for the new lead")
    assert office.show(waits.value.approval_id).reason == "for the new lead"
    assert tokens.authenticate(office.db, waits.value.secret) is None
    assert waits.value.secret not in str(office.show(waits.value.approval_id))
    with pytest.raises(ConflictError, match="waits for a token 'boss' already"):
        tokens.create(office.db, **office.organisation, **new)
    office.approve(waits.value.approval_id)
    found = tokens.authenticate(office.db, waits.value.secret)
    assert found is not None
    assert (found.role, found.created_by) == ("owner", "token:ada")


def test_a_member_is_behind_every_token_that_their_token_makes(office: Office) -> None:
    """Nor can anybody at a door make a token that counts as another member: whoever makes it sees it."""
    ada, bob = sign_in(office, Role.OWNER, subject="ada", name="Ada"), sign_in(office, Role.OWNER)
    members = [int(one.name.rpartition("#")[2]) for one in (ada, bob)]
    first = make_token(office, "first", ada)
    second = make_token(office, "second", first)
    office.rules(override=0)
    approval = asked(office.resolve, office.letters(), ada)
    for one in (first, second):
        with pytest.raises(OwnApprovalError):
            office.approve(approval, one)
    for maker in (ada, first, ADA):
        with pytest.raises(InvalidInputError, match="member_id"):
            make_token(office, "of bob", maker, member_id=members[1])
    assert make_token(office, "own", first, member_id=members[0]).made_by == ada.name
    office.rules(override=0, token=0)
    office.approve(asked(make_token, office, "third", first), bob)
    made_by = office.world.one("SELECT created_by FROM withdrawals.tokens WHERE name = 'third'")
    assert made_by == ada.name
    office.approve(approval, make_token(office, "of bob", Actor("cli:root"), role="operator", member_id=members[1]))


def make_token(
    office: Office, name: str, who: Actor, *, role: str = "owner", member_id: int | None = None
) -> Actor:  # fmt: skip
    """Whom a new token stands for."""
    made = tokens.create(
        office.db,
        **office.organisation,
        name=name,
        role=role,
        actor=who.name,
        made_by=who.made_by,
        member_id=member_id,
        note="for the nightly sync",
    )
    return Actor(f"token:{name}", made.token.created_by)
