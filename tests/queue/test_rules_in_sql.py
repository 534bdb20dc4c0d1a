"""The set statements of the ledger held against the rules on real rows: every combination decides as the rules say."""

import itertools

import pytest
from sqlalchemy.exc import IntegrityError

from schemas.catalogue import Outcome
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
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


@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.parametrize("override", [False, True])
def test_a_letter_of_a_deactivation_is_decided_as_the_rules_say(
    db: Database, world: World, environment: Settings, came_back: bool, override: bool
) -> None:
    """The same for letters: every status the platform may show by then, person state, with and without override."""
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
            override=override,
        )
        for status, enrolment_id in ids.items()
    }
    assert world.outcomes(receipt.job_id) == want
    assert_balanced(db)
