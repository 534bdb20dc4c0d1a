"""The set statements of the ledger held against the rules on real rows: every combination decides as the rules say."""

import itertools
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from schemas.catalogue import Outcome
from schemas.protections import ProtectionRequest
from tests.support.racing import decide as decide_as_a_worker
from tests.support.racing import take
from tests.world import World, assert_balanced, decide_due
from worker.access.persons import Actor
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.ledger import decide as short
from worker.one_message import Part
from worker.people import protections
from worker.records import Asked, Claim, Decided
from worker.rules import ACTIVE, ENDED, IMPLIED_REASON, WITHDRAWN, Enrolment, decide

STATUSES = [*ACTIVE, *ENDED, WITHDRAWN, "on_hold", ""]


@pytest.mark.parametrize(("source", "reason"), list(itertools.product(["hr", "correction"], ["not_required", None])))
def test_a_source_that_implies_its_reason_cannot_be_stored_with_another(
    world: World, source: str, reason: str | None
) -> None:
    """Rule 1: "Source `hr` implies `user_deactivated`, source `correction` implies `enrolment_error`"."""
    assert set(IMPLIED_REASON) == {"hr", "correction"}
    with pytest.raises(IntegrityError):
        world.run(
            """INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
            request_hash, state, accepted, effective_at, learner_external_id, epoch)
            VALUES (1, :reason, :source, 'x', 'cli', 'k', '', 'scheduled', 1, now(), 'a',
                CASE WHEN :source = 'hr' THEN 1 END)""",
            source=source,
            reason=reason,
        )


def test_the_set_statement_decides_on_real_rows_just_as_the_rules_do(
    db: Database, world: World, environment: Settings
) -> None:
    """Every status, owned by a pathway or not, of this organisation or another, for a bulk job and a letter chunk."""
    other = world.organisation("Other")
    pathway = world.pathway()
    cases: dict[int, Enrolment] = {}
    for status, owned, organisation in itertools.product(STATUSES, (None, pathway), (world.organisation_id, other)):
        enrolment_id = world.enrolment(f"l{len(cases)}", status, pathway_id=owned, organisation_id=organisation)
        cases[enrolment_id] = Enrolment(organisation, status, owned)
    missing = max(cases) + 1000
    job = world.submit(db, [*cases, missing])
    decide_due(db, environment)
    want = {key: decide(value, organisation_id=world.organisation_id) for key, value in cases.items()}
    want[missing] = decide(None, organisation_id=world.organisation_id)
    assert world.outcomes(job.id) == want
    for enrolment_id, outcome in want.items():
        if enrolment_id in cases:
            expected = WITHDRAWN if outcome is Outcome.WITHDRAWN else cases[enrolment_id].status
            assert world.status(enrolment_id) == expected
    assert_balanced(db)


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.parametrize("override", [False, True])
def test_a_letter_of_a_deactivation_is_decided_as_the_rules_say(
    db: Database, world: World, environment: Settings, came_back: bool, override: bool, protected: bool
) -> None:
    """The same for letters: every status the platform may show by then, person state, protection, override or not."""
    pathway = world.pathway()
    ids = {status: world.enrolment("anna", pathway_id=pathway) for status in STATUSES}
    receipt = world.event(db, "deactivated", "anna")
    decide_due(db, environment)
    assert receipt.job_id is not None
    assert set(world.outcomes(receipt.job_id).values()) == {"pathway_owned"}
    for status, enrolment_id in ids.items():
        world.run("UPDATE lms.enrolments SET status = :s WHERE id = :id", s=status, id=enrolment_id)
    if came_back:
        world.event(db, "reactivated", "anna")
    if protected:
        wanted = ProtectionRequest(learner_external_id="anna", kind="legal_hold", reason="case 17")
        protections.protect(db, organisation_id=world.organisation_id, wanted=wanted, who=Actor("cli:ada"))
    open_letters = [letter.id for letter in world.letters()]
    arguments = {"organisation_id": world.organisation_id, "letter_ids": open_letters, "actor": "test:support"}
    if override:
        remedies.resolve(db, remedy="override", note="agreed", **arguments)  # type: ignore[arg-type]
    else:
        remedies.redrive(db, **arguments)  # type: ignore[arg-type]
    decide_due(db, environment)
    want = {
        enrolment_id: decide(
            Enrolment(world.organisation_id, status, pathway),
            organisation_id=world.organisation_id,
            superseded=came_back,
            protected=protected,
            override=override,
        )
        for status, enrolment_id in ids.items()
    }
    assert world.outcomes(receipt.job_id) == want
    assert_balanced(db)


CASES = {
    "active ones": (["in_progress", "no_attempts"], True),
    "with ended and withdrawn ones": (["in_progress", "mastered", WITHDRAWN], True),
    "with an unknown status": (["in_progress", "on_hold"], False),
    "with one of a pathway": (["in_progress", "of a pathway"], False),
    "with an ended one of a pathway": (["in_progress", "of a pathway, ended"], True),
    "with a missing one": (["in_progress", "missing"], False),
    "with one of another organisation": (["in_progress", "of another"], False),
}


@pytest.mark.part(3)
@pytest.mark.parametrize("version", ["that it is", "before 18"])
@pytest.mark.parametrize("case", CASES)
def test_a_plain_chunk_is_decided_as_every_other(
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    version: str,
) -> None:
    """The short way and the general one write the same, and only what needs no support goes the short way."""
    if version == "before 18":
        monkeypatch.setattr(short, "RETURNS_OLD", 10**9)
    kinds, plain = CASES[case]
    taken: list[Decided] = []
    short_way = short.decide_plain_at_once

    def noted(connection: Connection, claim: Claim, *last: Part) -> tuple[tuple[Decided, Asked] | None, list[Any]]:
        found = short_way(connection, claim, *last)
        if found[0] is not None:
            taken.append(found[0][0])
        return found

    monkeypatch.setattr(short, "decide_plain_at_once", noted)
    first = world.submit(db, [_enrolment(world, kind, f"a{n}") for n, kind in enumerate(kinds)])
    decide_as_a_worker(db, take(db))
    assert bool(taken) is plain
    monkeypatch.setattr(short, "decide_plain_at_once", lambda *_: (None, []))
    second = world.submit(db, [_enrolment(world, kind, f"b{n}") for n, kind in enumerate(kinds)])
    decide_due(db, environment)
    assert len(taken) == plain
    assert _written(world, first.id) == _written(world, second.id)
    assert_balanced(db)


def _enrolment(world: World, kind: str, learner: str) -> int:
    if kind == "missing":
        return 10**9 + world.enrolment(learner, "mastered")
    if kind == "of another":
        return world.enrolment(learner, organisation_id=world.organisation(f"Other {learner}"))
    if kind.startswith("of a pathway"):
        return world.enrolment(learner, "mastered" if "ended" in kind else "in_progress", pathway_id=world.pathway())
    return world.enrolment(learner, kind)


def _written(world: World, job_id: int) -> list[object]:
    """All that the decision of a job has written, without ids and times."""
    chunk = """SELECT state, counts, size, token IS NOT NULL, claims, lease_until, closed_at = (SELECT max(decided_at)
        FROM withdrawals.outcomes WHERE job_id = :job) FROM withdrawals.chunks WHERE job_id = :job"""
    rows = """SELECT o.outcome, o.prior_status, o.pathway_id IS NOT NULL, o.dead_letter_id IS NOT NULL, e.status,
        e.withdrawn_at = o.decided_at, e.withdrawal_reason, e.withdrawn_by
        FROM withdrawals.outcomes o LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id
        WHERE o.job_id = :job ORDER BY o.enrolment_id"""
    return [*world.run(chunk, job=job_id), *world.run(rows, job=job_id)]
