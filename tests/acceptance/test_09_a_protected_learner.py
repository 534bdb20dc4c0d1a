"""Ninth: a learner is under a legal hold. A bulk job, and then HR, ask for everybody; this one stays, and it is said.

Nothing withdraws what is protected, whoever asks. The plan says it before, the job's outcome, the dead letter and the
decision receipt after. When a second person lifts the hold, what it kept back is done within a day, by itself.
"""

from collections.abc import Callable

from schemas.catalogue import JobState
from schemas.jobs import JobRequest
from schemas.protections import ProtectionRequest
from tests.world import World, assert_balanced, eventually
from worker.access.persons import Actor
from worker.database import Database
from worker.dead_letters import decision_receipts, person_history
from worker.jobs import plan
from worker.jobs.show import show
from worker.people import protections
from worker.records import Job

Ended = Callable[[Job], Job]


def test_a_protected_learner_survives_a_bulk_job_and_it_is_said(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 11: "Nothing withdraws a protected learner or enrolment"."""
    organisation_id = world.organisation_id
    everybody = [world.enrolment(learner) for learner in ("anna", "ben", "carla")]
    ben = everybody[1]
    wanted = ProtectionRequest(learner_external_id="ben", kind="legal_hold", reason="Case 2026-17")
    hold = protections.protect(db, organisation_id=organisation_id, wanted=wanted, who=Actor("token:ada"))

    # The plan of the bulk job says it before.
    planned = plan.of_request(db, organisation_id, JobRequest(reason="not_required", enrolment_ids=everybody))
    assert planned.outcomes == {"protected": 1, "withdrawn": 2}
    assert planned.samples["protected"][0].protection == "a legal hold without an end"

    # The job withdraws the others, and says so.
    job = ended(world.submit(db, everybody))
    assert (job.state, job.outcomes) == (JobState.COMPLETED_WITH_EXCEPTIONS, {"protected": 1, "withdrawn": 2})
    receipt = decision_receipts.explain(db, organisation_id=organisation_id, enrolment_id=ben)
    assert receipt.decisions[0].sentence.startswith("A legal hold without an end protected it")

    # HR deactivates the person: inactive from now on, and still enrolled.
    deactivation = eventually(lambda: world.event(db, "deactivated", "ben").job_id, what="a job of the deactivation")
    hr = ended(show(db, organisation_id=organisation_id, job_id=deactivation))
    assert hr.outcomes == {"protected": 1}
    assert (world.active("ben"), world.status(ben)) == (False, "in_progress")
    assert_balanced(db)

    # Somebody else lifts the hold. The next daily pass does what both had asked for: the earlier job withdraws.
    note = "The case is closed."
    protections.lift(db, organisation_id=organisation_id, protection_id=hold.id, who=Actor("token:bea"), note=note)
    world.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '2 days'")
    eventually(lambda: world.status(ben) == "withdrawn", what="the daily pass withdraws")
    eventually(lambda: {letter.state for letter in world.letters()} == {"resolved"}, what="the letter is resolved")
    assert world.outcomes(job.id)[ben] == "withdrawn"
    assert world.outcomes(hr.id) == {ben: "already_withdrawn"}
    history = person_history.show(db, organisation_id=organisation_id, external_id="ben").history
    told = [event.what for event in reversed(history)]
    assert told[0].startswith("set protection")
    assert any(what.startswith("lifted protection") for what in told)
    assert_balanced(db)
