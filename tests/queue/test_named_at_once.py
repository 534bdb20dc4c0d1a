"""Small chunks that name enrolments, decided in one message: as the general way decides them, and nothing special."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from schemas.protections import ProtectionRequest
from tests.jobs.undoing import Undo
from tests.support import failpoints
from tests.support.failpoints import armed
from tests.support.racing import chunks, held, job_state, leases_run_out, take
from tests.world import World, assert_balanced, decide_due
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.ledger import approvals, jobs
from worker.ledger.decide_at_once import DecidedAtOnce
from worker.ledger.decide_named import decide_named, decide_parts
from worker.people import protections
from worker.queue import recovery
from worker.queue.apply import claim_and_apply_small
from worker.records import Claim
from worker.rules import WITHDRAWN

CASES: dict[str, tuple[Sequence[str], bool]] = {
    "an active one": (["in_progress"], True),
    "a withdrawn one": ([WITHDRAWN], True),
    "an ended one": (["mastered"], True),
    "several": (["in_progress", "no_attempts", "mastered", WITHDRAWN], True),
    "an unknown status": (["on_hold"], False),
    "one of a pathway": (["of a pathway"], False),
    "an ended one of a pathway": (["of a pathway, ended"], True),
    "a withdrawn one of a pathway": (["of a pathway, withdrawn"], True),
    "a protected one": (["protected"], False),
    "a protected one that has ended": (["protected, ended"], True),
    "one that is not there": (["missing"], False),
    "another organisation's": (["foreign"], False),
    "a special one among others": (["in_progress", "mastered", "on_hold", "no_attempts"], False),
    "one with a live letter": (["with a letter"], True),
    "asked for twice": (["in_progress"], False),
    "asked for twice among others": (["in_progress", "no_attempts"], False),
}
STATUS = {"ended": "mastered", "withdrawn": WITHDRAWN}


def _make(world: World, db: Database, settings: Settings, person: str, kind: str) -> int:
    """An enrolment; its id."""
    what, _, status = kind.partition(", ")
    match what:
        case "missing":
            return 10**12
        case "foreign":
            return world.enrolment(person, organisation_id=world.organisation(person))
        case "of a pathway":
            return world.enrolment(person, STATUS.get(status, "in_progress"), pathway_id=world.pathway())
        case "protected":
            made = world.enrolment(person, STATUS.get(status, "in_progress"))
            wanted = ProtectionRequest(enrolment_id=made, kind="legal_hold", reason="case 17")
            protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("cli:ada"))
            return made
        case "with a letter":
            made = world.enrolment(person, pathway_id=world.pathway())
            world.submit(db, [made])
            decide_due(db, settings)
            world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = :id", id=made)
            return made
        case _:
            return world.enrolment(person, what)


def _written(world: World, job_ids: Sequence[int]) -> list[object]:
    """All that the decision of jobs has written, without ids and times."""
    its_jobs = """SELECT j.state, j.finished_at IS NULL, j.learners, j.correct_due, j.begun, c.state, c.counts, c.size,
        c.token IS NOT NULL, c.claims, c.lease_until, c.closed_at IS NULL, c.dead_letter_id IS NULL
        FROM withdrawals.jobs j JOIN withdrawals.job_chunks c ON c.job_id = j.id
        WHERE j.id = ANY(:jobs) ORDER BY j.id"""
    rows = """SELECT o.outcome, o.prior_status, o.pathway_id IS NOT NULL, o.dead_letter_id IS NOT NULL, e.status,
        e.withdrawn_at = o.decided_at, e.withdrawal_reason, e.withdrawn_by
        FROM withdrawals.outcomes o LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id
        WHERE o.job_id = ANY(:jobs) ORDER BY o.job_id, o.enrolment_id"""
    letters = """SELECT l.code, l.state, l.job_id = ANY(:jobs) FROM withdrawals.dead_letters l WHERE l.enrolment_id IN (
        SELECT o.enrolment_id FROM withdrawals.outcomes o WHERE o.job_id = ANY(:jobs)) AND l.enrolment_id < 10^12"""
    told = """SELECT d.type, d.data - 'job_id' FROM withdrawals.deliveries d
        WHERE CAST(d.data ->> 'job_id' AS bigint) = ANY(:jobs) ORDER BY CAST(d.data ->> 'job_id' AS bigint)"""
    return [world.run(one, jobs=list(job_ids)) for one in (its_jobs, rows, letters, told)]


def test_what_has_nothing_special_in_it_is_decided_as_all_else(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One claim has all cases. The short way takes the plain ones alone, and both ways write the same."""
    taken = set[int]()
    world.run(
        """INSERT INTO withdrawals.endpoints (organisation_id, url, events, secret, created_by)
        VALUES (:o, 'https://help.example/', ARRAY['job.completed'], 'x', 'test')""",
        o=world.organisation_id,
    )

    def noted(connection: Connection, token: UUID, **wanted: Any) -> tuple[Claim | None, bool, DecidedAtOnce]:
        claim, events, found = claim_and_apply_small(connection, token, **wanted)
        taken.update(one.job_id for one in found.decided)
        return claim, events, found

    def nothing_small() -> None:
        monkeypatch.setattr("worker.queue.apply.decide_parts", lambda *_: ())
        monkeypatch.setattr("worker.queue.apply.decide_named", lambda *_: DecidedAtOnce())

    monkeypatch.setattr("worker.queue.drain.claim_and_apply_small", noted)
    written: dict[str, list[object]] = {}
    for way in ("short", "general"):
        nothing_small()
        made = {
            case: [_make(world, db, environment, f"{case} {way} {n}", kind) for n, kind in enumerate(kinds)]
            for case, (kinds, _) in CASES.items()
        }
        asked = {
            case: [world.submit(db, ids, reason=reason).id for reason in reasons]
            for case, ids in made.items()
            for reasons in [["learner_declined", "not_required"] if "twice" in case else ["not_required"]]
        }
        if way == "short":
            monkeypatch.setattr("worker.queue.apply.decide_parts", decide_parts)
        decide_due(db, environment)
        for case, job_ids in asked.items():
            found = _written(world, job_ids)
            assert written.setdefault(case, found) == found, case
            if way == "short":
                assert taken.issuperset(job_ids) == CASES[case][1], case
                assert taken.isdisjoint(job_ids) != CASES[case][1], case
    assert not world.run("SELECT FROM withdrawals.deliveries WHERE data -> 'outcomes' = '{}'"), "counted too early"
    assert_balanced(db)


def _claimed(db: Database, world: World, many: int = 2) -> Claim:
    """One claim with single requests, each for an enrolment of its own."""
    for one in world.enrolments(many):
        world.submit(db, [one])
    return take(db)


def _decide(db: Database, claim: Claim) -> DecidedAtOnce:
    with db.begin(autocommit=True) as connection:
        return decide_named(connection, claim)


@pytest.mark.parametrize(
    "changed",
    [
        "UPDATE withdrawals.chunks SET override = true",
        "UPDATE withdrawals.chunks SET token = gen_random_uuid()",
        "UPDATE withdrawals.chunks SET state = 'ready', lease_until = NULL",
        "UPDATE withdrawals.jobs SET state = 'paused'",
        "UPDATE withdrawals.jobs SET source = 'hr', door = 'hr:roster', reason = 'user_deactivated'",
        "UPDATE withdrawals.jobs SET source = 'support', reason = 'user_deactivated', epoch = 1,"
        " deactivated_external_id = 'anna'",
    ],
    ids=["an override", "a lost claim", "a chunk given back", "a paused job", "a roster", "a cascade"],
)
def test_what_is_left_to_the_general_way_is_not_touched(db: Database, world: World, changed: str) -> None:
    """What the claim may not decide by itself, however it came about."""
    claim = _claimed(db, world)
    world.force(changed)
    assert _decide(db, claim) == DecidedAtOnce()
    assert world.run("SELECT DISTINCT status FROM lms.enrolments") == [("in_progress",)]
    assert not world.run("SELECT FROM withdrawals.outcomes")


def test_an_undo_is_left_to_the_general_way(db: Database, world: World, environment: Settings) -> None:
    """It names enrolments, too; what it takes back is not decided by the rules of a withdrawal."""
    undo = Undo(db, world, environment)
    first, other = world.enrolments(2)
    back = undo.accept(undo.withdraw([first]).id)
    world.submit(db, [other])
    claim = take(db)
    assert claim.names_enrolments
    assert back.id not in {one.job_id for one in _decide(db, claim).decided}
    assert world.status(first) == WITHDRAWN
    assert world.status(other) == WITHDRAWN


def test_an_enrolment_that_an_undo_of_the_claim_names_is_left_to_the_general_way(
    db: Database, world: World, environment: Settings
) -> None:
    """There the undo comes before the withdrawal, which stands."""
    undo = Undo(db, world, environment)
    (shared,) = world.enrolments(1)
    undo.accept(undo.withdraw([shared]).id)
    later = world.submit(db, [shared])
    assert _decide(db, take(db)) == DecidedAtOnce()
    leases_run_out(world)
    recovery.take_over(db, environment)
    decide_due(db, environment)
    assert job_state(world, later.id) == "completed"
    assert_balanced(db)


def test_an_attempt_at_a_letter_is_left_to_the_general_way(db: Database, world: World) -> None:
    claim = _claimed(db, world)
    world.force(
        """WITH l AS (INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, job_id, fingerprint)
            SELECT organisation_id, 'not_found', enrolment_ids[1], job_id, 'x' FROM withdrawals.chunks
            ORDER BY id LIMIT 1 RETURNING id)
        UPDATE withdrawals.chunks SET redrives = (SELECT id FROM l), asked_by = 'cli:ada'"""
    )
    assert _decide(db, claim) == DecidedAtOnce()


def test_a_job_of_several_chunks_is_ended_after_its_last(db: Database, world: World, environment: Settings) -> None:
    """A claim may have some of its chunks, or all; both say afterwards whether it has begun or ended."""
    job = world.submit(db, world.enrolments(4), chunk_size=1)
    found = _decide(db, take(db, budget=3))
    assert (len(found.decided), found.finished) == (3, [])
    assert job_state(world, job.id) == "queued"
    decide_due(db, environment)
    assert job_state(world, job.id) == "completed"
    assert_balanced(db)


def test_a_job_whose_other_chunk_withdraws_nobody_is_not_ended_before_it(db: Database, world: World) -> None:
    """The brake counts one learner, as many as its first chunk withdraws."""
    job = world.submit(db, [*world.enrolments(1), *world.enrolments(1, "mastered")], chunk_size=1)
    found = _decide(db, take(db, budget=1))
    assert (len(found.decided), found.finished) == (1, [])
    assert job_state(world, job.id) == "queued"


def test_a_job_that_somebody_else_is_changing_is_ended_afterwards(db: Database, owner: Database, world: World) -> None:
    """Nobody waits: who changes a job may want its chunks next."""
    claim = _claimed(db, world)
    busy, other = sorted(claim.job_ids)
    with held(owner, "SELECT 1 FROM withdrawals.jobs WHERE id = :id FOR UPDATE", id=busy):
        found = _decide(db, claim)
    assert len(found.decided) == len(claim.chunk_ids)
    assert found.finished == [(other, "completed")]
    assert job_state(world, busy) == "queued"


def test_a_job_of_which_the_brake_counts_another_number_is_ended_afterwards(db: Database, world: World) -> None:
    """Its learner was mastered after it was admitted: the end gives the learner back to the window."""
    ids = world.enrolments(2)
    mastered = world.submit(db, ids[:1]).id
    world.submit(db, ids[1:])
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[0])
    found = _decide(db, take(db))
    assert len(found.decided) == 2
    assert mastered not in dict(found.finished)
    with db.begin() as connection:
        assert jobs.finish(connection, [mastered]) == [(mastered, "completed_with_exceptions")]
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1
    assert_balanced(db)


def test_a_job_that_counts_for_a_limit_of_a_series_is_ended_with_its_chunk(db: Database, world: World) -> None:
    """Its one enrolment was counted for the one Series that it is of."""
    with db.begin() as connection:
        jobs.lock_settings(connection, world.organisation_id)
        limit = {"act": "withdraw_series", "source": None, "alone_up_to": 100}
        approvals.set_rules(connection, world.organisation_id, [limit])
    claim = _claimed(db, world)
    assert len(_decide(db, claim).finished) == 2
    assert world.one("SELECT sum(learners) FROM withdrawals.brake_series") == 2
    assert_balanced(db)


@pytest.fixture
def _taken_out() -> Iterator[None]:
    yield
    failpoints.uninstall()


@pytest.mark.usefixtures("_taken_out")
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("broken", [failpoints.lose_connection, failpoints.row_error])
def test_a_message_that_fails_or_whose_answer_is_lost_is_decided_once(
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    broken: failpoints.Action,
    side: str,
) -> None:
    """Before it nothing is done; after it all of it is, and whoever asks again finds that. Behind a claim that decides
    nothing, as each but the first of a run.
    """
    monkeypatch.setattr("worker.queue.apply.decide_parts", lambda *_: ())
    ids = world.enrolments(3)
    for one in ids:
        world.submit(db, [one])
    with armed(f"decide_named.decide_named:{side}", broken) as fault:
        decide_due(db, environment)
    assert fault.fired.is_set()
    decide_due(db, environment)
    states = world.run("SELECT j.state, c.claims FROM withdrawals.jobs j JOIN withdrawals.chunks c ON c.job_id = j.id")
    assert states == [("completed", 1)] * len(ids)
    assert [world.status(one) for one in ids] == [WITHDRAWN] * len(ids)
    assert_balanced(db)


def test_what_a_worker_has_claimed_that_was_killed_is_decided_by_another(
    db: Database, world: World, environment: Settings
) -> None:
    """Between the claim and the message. Each is claimed alone then: one of them may have taken the worker down."""
    claim = _claimed(db, world, 3)
    leases_run_out(world)
    assert recovery.take_over(db, environment) == 1
    assert _decide(db, claim) == DecidedAtOnce(), "the late one finds nothing of its own"
    decide_due(db, environment)
    for job_id in claim.job_ids:
        assert job_state(world, job_id) == "completed"
        assert chunks(world, job_id, "state, claims, alone") == [("done", 2, True)]
    assert_balanced(db)
