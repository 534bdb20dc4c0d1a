"""The rules of a reinstate as a model in Python, and the set statement held against it on every combination.

The service decides in SQL alone (`worker/ledger/reinstate.sql`); this model is the second opinion.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.catalogue import Outcome
from tests.jobs.undoing import Undo, same_again
from tests.world import World, assert_balanced, decide_due
from worker.database import Database
from worker.jobs.reinstate import plan


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a withdrawal wrote, or what an enrolment shows of one."""

    status: str
    withdrawn_at: datetime | None
    reason: str | None
    withdrawn_by: str | None


def decide(
    wrote: Withdrawal | None, shows: Withdrawal | None, *, learner_active: bool, enrolled_again: bool
) -> Outcome:
    """What a reinstate does to one enrolment.

    `wrote`: by the job's current outcome, None when that is not `withdrawn` or was taken back.
    `shows`: the enrolment, None when it is gone. Whatever somebody changed since stays as it is.
    `enrolled_again`: another active enrolment has the same learner, Series and pathway, or one that is newer and
    is reinstated by the same job (at most one of them can be active).
    """
    if wrote is None or shows != wrote:
        return Outcome.CHANGED_SINCE
    if not learner_active:
        return Outcome.LEARNER_INACTIVE
    return Outcome.ENROLLED_AGAIN if enrolled_again else Outcome.REINSTATED


def test_the_set_statement_decides_as_the_model_does(undo: Undo, world: World, db: Database) -> None:
    """Every mix of: taken back before, changed since, learner inactive, enrolled again."""
    cases: dict[int, tuple[bool, bool, bool, bool]] = {}
    mixes = [tuple(bool(number & bit) for bit in (1, 2, 4, 8)) for number in range(16)]
    for number, mix in enumerate(mixes):
        cases[world.enrolment(f"l{number}")] = (mix[0], mix[1], mix[2], mix[3])
    job = undo.withdraw(list(cases))
    first = undo.accept(job.id)  # frozen now, decided after all that follows
    early = [enrolment for enrolment, mix in cases.items() if mix[0]]
    world.run("UPDATE withdrawals.chunks SET run_after = now() + interval '1 h' WHERE job_id = :j", j=first.id)
    undo.back(job.id, enrolment_ids=early)
    want = {}
    for enrolment, (back, changed, inactive, again) in cases.items():
        if changed and not back:
            world.run("UPDATE lms.enrolments SET status = 'incomplete' WHERE id = :i", i=enrolment)
        if inactive:
            world.run(
                """UPDATE lms.learners SET active = false
                WHERE id = (SELECT learner_id FROM lms.enrolments WHERE id = :i)""",
                i=enrolment,
            )
        if again and not back:
            same_again(world, enrolment)
        wrote = Withdrawal("withdrawn", job.created_at, "not_required", "test:admin")
        shows = replace(wrote, status="incomplete") if changed else wrote
        want[enrolment] = decide(None if back else wrote, shows, learner_active=not inactive, enrolled_again=again)
    planned = plan(db, world.organisation_id, job.id, None)
    assert planned.outcomes == Counter(want[enrolment] for enrolment, (back, *_) in cases.items() if not back)
    world.run("UPDATE withdrawals.chunks SET run_after = now() WHERE job_id = :j", j=first.id)
    decide_due(db, undo.settings)
    assert world.outcomes(first.id) == want
    assert set(want.values()) == {
        Outcome.REINSTATED,
        Outcome.ENROLLED_AGAIN,
        Outcome.CHANGED_SINCE,
        Outcome.LEARNER_INACTIVE,
    }
    assert_balanced(db)
