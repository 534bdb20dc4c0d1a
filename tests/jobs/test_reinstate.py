"""The undo of a job: each outcome by its name, parts, repetition, what comes after; and never progress or access."""

import pytest

from schemas.catalogue import JobState
from schemas.jobs import JobRequest
from schemas.reinstate import ReinstateRequest
from schemas.reports import EnrolmentFilter
from tests.jobs.undoing import Undo, same_again
from tests.support.racing import always_balanced, chunks, workers
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import decision_receipts, remedies
from worker.errors import ConflictError, IdempotencyConflictError, NotFoundError
from worker.jobs.control import cancel
from worker.jobs.reinstate import plan, reinstate
from worker.jobs.submit import submit
from worker.ledger import outcomes
from worker.reports.summary import summarise
from worker.rules import ACTIVE

SHOWS = (
    "SELECT status, withdrawn_at, withdrawal_reason, withdrawn_by, progress, due_at FROM lms.enrolments WHERE id = :i"
)


def test_prior_statuses_are_put_back_and_nothing_else_changes(undo: Undo, world: World, db: Database) -> None:
    ids = [world.enrolment(f"l{number}", status) for number, status in enumerate(ACTIVE)]
    world.run("UPDATE lms.enrolments SET progress = 0.4, due_at = '2026-01-02'")
    world.run("INSERT INTO lms.resource_access SELECT learner_id, series_id FROM lms.enrolments")
    before = world.run("SELECT * FROM lms.enrolments ORDER BY id"), world.run("SELECT * FROM lms.resource_access")
    first = undo.withdraw(ids)
    made = undo.back(first.id)
    assert made.state is JobState.COMPLETED
    assert (made.kind, made.reason, made.reinstates, made.outcomes) == ("reinstate", None, first.id, {"reinstated": 4})
    assert before == (
        world.run("SELECT * FROM lms.enrolments ORDER BY id"),
        world.run("SELECT * FROM lms.resource_access"),
    )
    original = undo.shown(first.id)
    assert (original.state, original.outcomes, original.reinstated) == (JobState.COMPLETED, {"withdrawn": 4}, 4)
    named = world.run("SELECT DISTINCT reinstated_by FROM withdrawals.outcomes WHERE job_id = :j", j=first.id)
    assert [row[0] for row in named] == [made.id]
    acts = world.run("SELECT actor, action FROM withdrawals.audit WHERE job_id = :j", j=made.id)
    assert [tuple(row) for row in acts] == [("test:admin", "job.reinstate")]
    assert_balanced(db)


def test_each_enrolment_gets_the_outcome_that_the_plan_showed(undo: Undo, world: World, db: Database) -> None:
    names = ["fine", "again", "inactive", "ended", "gone", "reenrolled", "elsewhere"]
    ids = {name: world.enrolment(name) for name in names}
    job = undo.withdraw(list(ids.values()))
    same_again(world, ids["again"])
    world.run("UPDATE lms.learners SET active = false WHERE external_id = 'inactive'")
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :i", i=ids["ended"])
    world.run("DELETE FROM lms.enrolments WHERE id = :i", i=ids["gone"])
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :i", i=ids["reenrolled"])
    other = world.organisation("Other")
    world.run("UPDATE lms.enrolments SET organisation_id = :o WHERE id = :i", o=other, i=ids["elsewhere"])
    foretold = plan(db, world.organisation_id, job.id, None)
    made = undo.back(job.id)
    want = dict.fromkeys(ids, "changed_since") | {
        "fine": "reinstated",
        "again": "enrolled_again",
        "inactive": "learner_inactive",
    }
    assert world.outcomes(made.id) == {ids[name]: outcome for name, outcome in want.items()}
    assert made.state is JobState.COMPLETED_WITH_EXCEPTIONS
    assert made.outcomes == foretold.outcomes
    assert foretold.samples["enrolled_again"] == [ids["again"]]
    assert undo.shown(job.id).reinstated == 1
    assert_balanced(db)


@pytest.mark.parametrize("changed", ["withdrawn_at = now()", "withdrawal_reason = 'x'", "withdrawn_by = 'x'"])
def test_an_enrolment_that_somebody_changed_since_stays_as_it_is(undo: Undo, world: World, changed: str) -> None:
    enrolment = world.enrolment()
    job = undo.withdraw([enrolment])
    world.run(f"UPDATE lms.enrolments SET {changed}")
    theirs = world.run(SHOWS, i=enrolment)
    assert world.outcomes(undo.back(job.id).id) == {enrolment: "changed_since"}
    assert world.run(SHOWS, i=enrolment) == theirs


def test_of_two_enrolments_with_one_key_the_newer_is_reinstated(undo: Undo, world: World, db: Database) -> None:
    """In one chunk and across chunks, the older first: at most one of them can be active."""
    for chunk_size in (1000, 1):
        older = world.enrolment(f"l{chunk_size}")
        newer = same_again(world, older, "on_hold")
        job = undo.withdraw([older, newer])
        world.run("UPDATE lms.enrolments SET status = 'no_attempts' WHERE id = :i", i=newer)
        letter = next(letter for letter in world.letters() if letter.enrolment_id == newer)
        remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
        decide_due(db, undo.settings)
        assert set(world.outcomes(job.id).values()) == {"withdrawn"}
        assert plan(db, world.organisation_id, job.id, None).outcomes == {"enrolled_again": 1, "reinstated": 1}
        made = undo.accept(job.id, chunk_size=chunk_size)
        one_by_one = undo.settings.model_copy(update={"chunk_size": 1})
        decide_due(db, one_by_one if chunk_size == 1 else undo.settings)
        assert world.outcomes(made.id) == {older: "enrolled_again", newer: "reinstated"}
        assert world.status(newer) == "no_attempts"
        assert_balanced(db)


def test_a_part_is_taken_back_and_later_the_rest(undo: Undo, world: World, db: Database) -> None:
    ids = [*world.enrolments(3), world.enrolment("anna", "not_signed_in")]
    series, learner = world.run("SELECT series_id, learner_id FROM lms.enrolments WHERE id = :i", i=ids[3])[0]
    job = undo.withdraw(ids)
    assert undo.back(job.id, series_id=series, learner_ids=[learner]).outcomes == {"reinstated": 1}
    assert world.status(ids[3]) == "not_signed_in"
    assert undo.back(job.id, enrolment_ids=[ids[0], ids[3], 10**9]).outcomes == {"reinstated": 1}
    assert undo.back(job.id, enrolled_before="2000-01-01T00:00:00Z").state is JobState.COMPLETED
    rest = undo.back(job.id)
    assert (rest.accepted, rest.outcomes) == (2, {"reinstated": 2})
    empty = undo.back(job.id)
    assert (empty.accepted, empty.outcomes, empty.state) == (0, {}, JobState.COMPLETED)
    assert undo.shown(job.id).reinstated == 4
    assert_balanced(db)


def test_the_same_key_twice_makes_one_job(undo: Undo, world: World) -> None:
    ids = world.enrolments(2)
    job = undo.withdraw(ids)
    made = undo.back(job.id, key="k")
    assert undo.back(job.id, key="k").id == made.id
    with pytest.raises(IdempotencyConflictError):
        undo.accept(job.id, key="k", enrolment_ids=ids)
    with pytest.raises(IdempotencyConflictError):
        submit(undo.db, world.requester("k"), JobRequest(reason="not_required", enrolment_ids=ids))


def test_a_reinstated_enrolment_can_be_withdrawn_and_reinstated_again(undo: Undo, world: World, db: Database) -> None:
    enrolment = world.enrolment("anna", "no_attempts")
    first = undo.withdraw([enrolment])
    undo.back(first.id)
    second = undo.withdraw([enrolment], reason="learner_declined")
    assert second.outcomes == {"withdrawn": 1}
    assert_balanced(db)
    assert undo.back(first.id).accepted == 0, "the first withdrawal was taken back; the second is not its own"
    assert undo.back(second.id).outcomes == {"reinstated": 1}
    assert world.status(enrolment) == "no_attempts"
    assert_balanced(db)


def test_a_person_who_came_back_is_reinstated_only_when_somebody_asks(undo: Undo, world: World, db: Database) -> None:
    """Rule 10: "Coming back later never reinstates by itself; an operator can"."""
    ids = [world.enrolment("anna"), world.enrolment("anna", "waiting_to_start")]
    job_id = world.event(db, "deactivated", "anna").job_id or 0
    decide_due(db, undo.settings)
    assert undo.back(job_id).outcomes == {"learner_inactive": 2}
    world.event(db, "reactivated", "anna")
    decide_due(db, undo.settings)
    assert {world.status(enrolment) for enrolment in ids} == {"withdrawn"}
    assert undo.back(job_id).outcomes == {"reinstated": 2}
    assert [world.status(enrolment) for enrolment in ids] == ["in_progress", "waiting_to_start"]
    assert_balanced(db)


def test_an_override_is_taken_back_with_its_job(undo: Undo, world: World, db: Database) -> None:
    enrolment = world.enrolment(pathway_id=world.pathway())
    job = undo.withdraw([enrolment])
    assert undo.back(job.id).accepted == 0
    remedy = {"remedy": "override", "actor": "test:approver", "note": "agreed"}
    found = [world.letters()[0].id]
    remedies.resolve(db, organisation_id=world.organisation_id, letter_ids=found, **remedy)
    decide_due(db, undo.settings)
    assert world.status(enrolment) == "withdrawn"
    assert undo.back(job.id).outcomes == {"reinstated": 1}
    assert world.status(enrolment) == "in_progress"
    assert_balanced(db)


def test_a_job_with_work_left_or_a_reinstate_cannot_be_taken_back(undo: Undo, world: World, db: Database) -> None:
    ids = world.enrolments(2)
    job = world.submit(db, ids)
    with pytest.raises(ConflictError, match="wait until it has ended, or cancel it"):
        undo.accept(job.id)
    with pytest.raises(ConflictError, match="wait until it has ended"):
        plan(db, world.organisation_id, job.id, None)
    cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
    made = undo.back(job.id)
    assert made.accepted == 0
    with pytest.raises(ConflictError, match="submit a new job"):
        undo.accept(made.id)
    with pytest.raises(NotFoundError):
        undo.accept(10**9)
    world.organisation_id = world.organisation("Other")
    with pytest.raises(NotFoundError):
        undo.accept(job.id)


def test_a_row_that_cannot_be_written_goes_to_support_and_its_redrive_reinstates(
    undo: Undo, world: World, db: Database
) -> None:
    """The others of its chunk are reinstated; the letter closes once the attempt succeeds."""
    ids = world.enrolments(4)
    job = undo.withdraw(ids)
    world.run(
        f"""CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.id = {ids[1]} THEN RAISE EXCEPTION 'no'; END IF; RETURN new; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION public.refuse()"""
    )
    made = undo.accept(job.id)
    with workers(db, undo.settings, 2), always_balanced(db):
        eventually(lambda: undo.shown(made.id).finished_at)
    assert undo.shown(made.id).outcomes == {"reinstated": 3, "failed": 1}
    assert undo.shown(made.id).state is JobState.COMPLETED_WITH_EXCEPTIONS
    (letter,) = world.letters()
    assert (letter.code, letter.enrolment_id) == ("retries_exhausted", ids[1])
    world.run("DROP TRIGGER refuse ON lms.enrolments")
    remedies.redrive(db, organisation_id=world.organisation_id, letter_ids=[letter.id], actor="test:support")
    decide_due(db, undo.settings)
    assert undo.shown(made.id).outcomes == {"reinstated": 4}
    assert world.letters()[0].state == "resolved"
    assert undo.shown(job.id).reinstated == 4
    assert_balanced(db)


def test_many_small_chunks_have_exact_counts(undo: Undo, world: World, db: Database) -> None:
    job = undo.withdraw(world.enrolments(50))
    made = undo.accept(job.id, chunk_size=7)
    assert [row[0] for row in chunks(world, made.id, "size")] == [7] * 7 + [1]
    decide_due(db, undo.settings)
    assert undo.shown(made.id).outcomes == {"reinstated": 50}
    assert_balanced(db)


def test_a_withdrawal_that_was_taken_back_says_so_wherever_it_is_shown(
    db: Database, world: World, environment: Settings
) -> None:
    """The listing of outcomes, the decision receipt and the summary."""
    enrolment_id = world.enrolment()
    job = world.submit(db, [enrolment_id])
    decide_due(db, environment)
    before = summarise(db, world.organisation_id, EnrolmentFilter())
    back = reinstate(db, world.requester(), job.id, ReinstateRequest()).job
    decide_due(db, environment)
    with db.begin() as connection:
        (listed,) = outcomes.list_outcomes(connection, world.organisation_id, job.id, outcome=None, after=0, limit=5)
    after = summarise(db, world.organisation_id, EnrolmentFilter())
    assert listed.reinstated_by == back.id
    assert [row.count for row in before.withdrawals] == [1]
    assert after.withdrawals == []
    receipt = decision_receipts.explain(db, organisation_id=world.organisation_id, enrolment_id=enrolment_id)
    assert receipt.decisions[0].sentence.endswith(f"Taken back by job {back.id}.")
    assert receipt.decisions[1].outcome == "reinstated"
    assert receipt.decisions[1].sentence.startswith("It has the status from before the withdrawal again")
