"""Second: what a withdrawal does to an enrolment, and what it leaves as it is."""

from collections.abc import Callable

from tests.world import World, assert_balanced
from worker.database import Database
from worker.records import Job

Ended = Callable[[Job], Job]


def test_a_withdrawal_leaves_its_reason_time_and_who_asked(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 3: "Withdrawing sets the status to `withdrawn` with reason, time and who asked"; progress stays."""
    enrolment_id = world.enrolment("anna")
    world.run("UPDATE lms.enrolments SET progress = 40 WHERE id = :i", i=enrolment_id)
    ended(world.submit(db, [enrolment_id], reason="learner_declined"))
    row = world.run("SELECT * FROM lms.enrolments WHERE id = :i", i=enrolment_id)[0]
    assert (row.status, row.withdrawal_reason, row.withdrawn_by) == ("withdrawn", "learner_declined", "test:admin")
    assert row.withdrawn_at is not None
    assert row.progress == 40


def test_an_overdue_enrolment_is_active(service: None, db: Database, world: World, ended: Ended) -> None:
    """Rule 2: "An overdue enrolment that is still active is active": lateness is not a status."""
    enrolment_id = world.enrolment("anna")
    world.run("UPDATE lms.enrolments SET due_at = now() - interval '1 year' WHERE id = :i", i=enrolment_id)
    assert ended(world.submit(db, [enrolment_id])).outcomes == {"withdrawn": 1}


def test_learning_resources_stay_open(service: None, db: Database, world: World, ended: Ended) -> None:
    """Rule 4: "Learning Resources stay open to a withdrawn learner: no code path here writes resource access"."""
    enrolment_id = world.enrolment("anna")
    world.run(
        "INSERT INTO lms.resource_access (learner_id, series_id) SELECT learner_id, series_id FROM lms.enrolments"
    )
    before = world.run("SELECT * FROM lms.resource_access")
    assert ended(world.submit(db, [enrolment_id])).outcomes == {"withdrawn": 1}
    assert world.run("SELECT * FROM lms.resource_access") == before


def test_a_second_withdrawal_keeps_what_the_first_wrote(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 9: "Already withdrawn is success and keeps the first reason, time and actor"."""
    enrolment_id = world.enrolment("anna")
    ended(world.submit(db, [enrolment_id], reason="learner_declined"))
    first = world.run("SELECT * FROM lms.enrolments")
    second = ended(world.submit(db, [enrolment_id], reason="not_required"))
    assert (second.state, second.outcomes) == ("completed", {"already_withdrawn": 1})
    assert world.run("SELECT * FROM lms.enrolments") == first


def test_a_learner_may_be_enrolled_in_the_same_series_again(
    service: None, db: Database, world: World, ended: Ended
) -> None:
    """Rule 3: "The learner may be enrolled in the same Series again later", and withdrawn again."""
    first = world.enrolment("anna")
    ended(world.submit(db, [first]))
    second = world.one(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT organisation_id, learner_id, series_id, 'waiting_to_start' FROM lms.enrolments WHERE id = :i
        RETURNING id""",
        i=first,
    )
    ended(world.submit(db, [second]))
    assert world.status(second) == "withdrawn"
    assert_balanced(db)
