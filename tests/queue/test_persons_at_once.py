"""Deactivations that are decided in one message: as the general way decides them, and nothing special among them."""

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Connection

from schemas.protections import ProtectionRequest
from tests.support import failpoints
from tests.support.failpoints import armed
from tests.support.incoming import incoming, make_registered, post
from tests.support.racing import take
from tests.world import World, apply_inbox, assert_balanced, decide_due
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.ledger import approvals, jobs
from worker.ledger.decide_at_once import DecidedAtOnce
from worker.ledger.decide_persons import decide_persons
from worker.people import protections
from worker.records import Claim
from worker.rules import WITHDRAWN

CASES: dict[str, tuple[Sequence[str], bool]] = {
    "one enrolment": (["in_progress"], True),
    "several, of which some have ended": (["in_progress", "no_attempts", "mastered", WITHDRAWN], True),
    "none that is active": (["mastered"], True),
    "none at all": ([], True),
    "an unknown status": (["in_progress", "on_hold"], False),
    "one of a pathway": (["in_progress", "of a pathway"], False),
    "an ended one of a pathway": (["in_progress", "of a pathway, ended"], True),
    "a protected one": (["in_progress", "protected"], False),
    "active again": (["in_progress"], False),
    "unknown": ([], False),
    "with an event that waits": (["in_progress"], False),
    "deactivated twice": (["in_progress"], True),
}


def _make(world: World, db: Database, person: str, case: str) -> None:
    if case != "unknown":
        world.learner(person)
    for kind in CASES[case][0]:
        pathway = world.pathway() if kind.startswith("of a pathway") else None
        status = "mastered" if kind.endswith("ended") else "in_progress" if pathway or kind == "protected" else kind
        enrolment_id = world.enrolment(person, status, pathway_id=pathway)
        if kind == "protected":
            wanted = ProtectionRequest(enrolment_id=enrolment_id, kind="legal_hold", reason="case 17")
            protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("cli:ada"))


def _written(world: World, person: str) -> list[object]:
    """All that the decision of a person's jobs has written, without ids and times."""
    jobs = """SELECT j.state, j.finished_at IS NULL, j.learners, j.correct_due, j.begun, c.state, c.counts, c.size,
        c.token IS NOT NULL, c.claims, c.lease_until, c.closed_at IS NULL, c.dead_letter_id IS NULL
        FROM withdrawals.jobs j JOIN withdrawals.job_chunks c ON c.job_id = j.id
        WHERE j.learner_external_id = :person ORDER BY j.id"""
    rows = """SELECT o.outcome, o.prior_status, o.pathway_id IS NOT NULL, o.dead_letter_id IS NOT NULL, e.status,
        e.withdrawn_at = o.decided_at, e.withdrawal_reason, e.withdrawn_by
        FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id
        JOIN lms.enrolments e ON e.id = o.enrolment_id
        WHERE j.learner_external_id = :person ORDER BY o.enrolment_id"""
    learner = "SELECT active FROM lms.learners WHERE external_id = :person"
    return [world.run(one, person=person) for one in (jobs, rows, learner)]


def test_what_has_nothing_special_in_it_is_decided_as_all_else(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One claim has all cases. The short way takes the plain ones alone, and both ways write the same."""
    source = make_registered(db, environment, world.organisation_id)
    taken = set[int]()

    def noted(connection: Connection, claim: Claim) -> DecidedAtOnce:
        found = decide_persons(connection, claim)
        taken.update(found.asked)
        return found

    def none(*_: object) -> DecidedAtOnce:
        return DecidedAtOnce()

    for way, decided_by in (("short", noted), ("general", none)):
        monkeypatch.setattr("worker.queue.apply.decide_persons", decided_by)
        for case in CASES:
            _make(world, db, f"{case} {way}", case)
        post(db, source, *(incoming(f"{case} {way}") for case in CASES))
        apply_inbox(db, environment)
        world.run("UPDATE lms.learners SET active = true WHERE external_id = :p", p=f"active again {way}")
        post(db, source, incoming(f"deactivated twice {way}", "reactivated", 1))
        apply_inbox(db, environment)
        post(db, source, incoming(f"deactivated twice {way}", "deactivated", 2))
        apply_inbox(db, environment)
        post(db, source, incoming(f"with an event that waits {way}", "reactivated", 1))
        world.run("UPDATE withdrawals.receipts SET run_after = now() + interval '1 hour' WHERE waiting")
        decide_due(db, environment)
    rows = world.run("SELECT learner_external_id FROM withdrawals.chunks WHERE id = ANY(:ids)", ids=sorted(taken))
    found = {person.removesuffix(" short") for (person,) in rows}
    assert found == {case for case, (_, is_plain) in CASES.items() if is_plain}
    for case in CASES:
        assert _written(world, f"{case} short") == _written(world, f"{case} general"), case
    world.run("UPDATE withdrawals.receipts SET run_after = now() WHERE waiting")
    apply_inbox(db, environment)
    decide_due(db, environment)
    assert_balanced(db)


def _claimed(db: Database, world: World, environment: Settings, *people: str) -> Claim:
    """One claim with the deactivations of people who have one enrolment each."""
    for person in people:
        world.enrolment(person)
    post(db, make_registered(db, environment, world.organisation_id), *map(incoming, people))
    apply_inbox(db, environment)
    return take(db)


def _decide(db: Database, claim: Claim) -> DecidedAtOnce:
    with db.begin(autocommit=True) as connection:
        return decide_persons(connection, claim)


@pytest.mark.parametrize(
    "changed",
    [
        "UPDATE withdrawals.persons SET epoch = epoch + 1 WHERE external_id = 'anna'",
        "UPDATE withdrawals.chunks SET learner_external_id = 'anna' WHERE learner_external_id = 'ben'",
        "UPDATE withdrawals.chunks SET override = true",
        "UPDATE withdrawals.chunks SET token = gen_random_uuid()",
        "UPDATE withdrawals.jobs SET state = 'paused'",
    ],
    ids=["a newer event of the person", "two chunks of a person", "an override", "a lost claim", "a paused job"],
)
def test_what_is_left_to_the_general_way_is_not_touched(
    db: Database, world: World, environment: Settings, changed: str
) -> None:
    """What the claim may not decide by itself, however it came about."""
    claim = _claimed(db, world, environment, "anna", "ben")
    world.force(changed)
    assert set(_decide(db, claim).asked) <= ({claim.chunk_ids[1]} if "epoch" in changed else set())
    assert world.one("SELECT status FROM lms.enrolments ORDER BY id LIMIT 1") == "in_progress"
    assert not world.run("SELECT FROM withdrawals.outcomes o JOIN lms.enrolments e ON e.id = o.enrolment_id"
        " JOIN lms.learners l ON l.id = e.learner_id WHERE l.external_id = 'anna'")  # fmt: skip


def test_a_job_that_counts_for_a_limit_of_a_series_is_ended_afterwards(
    db: Database, world: World, environment: Settings
) -> None:
    """The end of such a job gives back to the limit, which the message does not do."""
    with db.begin() as connection:
        jobs.lock_settings(connection, world.organisation_id)
        limit = {"act": "withdraw_series", "source": None, "alone_up_to": 100}
        approvals.set_rules(connection, world.organisation_id, [limit])
    claim = _claimed(db, world, environment, "anna")
    found = _decide(db, claim)
    assert (list(found.asked), found.finished) == (claim.chunk_ids, [])
    decide_due(db, environment)
    with db.begin() as connection:
        assert jobs.finish(connection, [one.job_id for one in found.decided])
    assert_balanced(db)


def test_a_job_of_which_the_brake_counts_another_number_is_ended_afterwards(
    db: Database, world: World, environment: Settings
) -> None:
    """The person's one enrolment has ended since the job was admitted: its end gives them back to the window."""
    claim = _claimed(db, world, environment, "anna", "ben")
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = (SELECT min(id) FROM lms.enrolments)")
    found = _decide(db, claim)
    assert [len(found.decided), len(found.finished)] == [2, 1]
    decided = {one.job_id for one in found.decided}
    with db.begin() as connection:
        assert len(jobs.finish(connection, sorted(decided.difference(job_id for job_id, _ in found.finished)))) == 1
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1
    assert_balanced(db)


@pytest.fixture
def _taken_out() -> Iterator[None]:
    yield
    failpoints.uninstall()


@pytest.mark.usefixtures("_taken_out")
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("broken", [failpoints.lose_connection, failpoints.row_error])
def test_a_message_that_fails_or_whose_answer_is_lost_is_decided_once(
    db: Database, world: World, environment: Settings, broken: failpoints.Action, side: str
) -> None:
    """Before it nothing is done; after it all of it is, and whoever asks again finds that."""
    people = ["anna", "ben", "cleo"]
    for person in people:
        world.enrolment(person)
    post(db, make_registered(db, environment, world.organisation_id), *map(incoming, people))
    apply_inbox(db, environment)
    with armed(f"decide_persons.decide_persons:{side}", broken) as fault:
        decide_due(db, environment)
    assert fault.fired.is_set()
    decide_due(db, environment)
    assert world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'") == len(people)
    states = world.run("SELECT j.state, c.claims FROM withdrawals.jobs j JOIN withdrawals.chunks c ON c.job_id = j.id")
    assert states == [("completed", 1)] * len(people)
    assert_balanced(db)
