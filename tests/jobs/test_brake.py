"""The brake: an abnormal volume waits for a second person.

"Over a rolling window … and across all sources … the learners of the jobs admitted in the window … exceed a
floor *and* a share … of the learners active now plus those deactivated in the window → the job is `held`."
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from schemas.catalogue import JobState
from schemas.control import BrakeSetting
from schemas.job_filter import ReleaseFilter
from schemas.jobs import JobRequest
from tests.world import World, assert_balanced, decide_due
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.errors import BrakeError, ConflictError, InvalidInputError, OwnJobError
from worker.jobs import admission, brake, control, plan
from worker.jobs.control import cancel
from worker.jobs.show import show
from worker.jobs.submit import Requester, submit
from worker.ledger import control as ledger
from worker.ledger import jobs as job_ledger
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.records import Job


def limit(db: Database, world: World, *, floor: int, share: float = 0.0, hours: int = 24) -> None:
    wanted = BrakeSetting(floor=floor, share=share, hours=hours)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")


def now(db: Database, world: World, job: Job) -> Job:
    return show(db, organisation_id=world.organisation_id, job_id=job.id)


def release(db: Database, world: World, job: Job, actor: str = "test:approver") -> Job:
    return control.release(db, organisation_id=world.organisation_id, job_id=job.id, actor=actor)


def chunk_states(world: World, job: Job) -> set[str]:
    return {row[0] for row in world.run("SELECT state FROM withdrawals.chunks WHERE job_id = :id", id=job.id)}


def sweep(db: Database, environment: Settings) -> None:
    broker = make_broker(environment.broker_url.get_secret_value())
    Relay(db, broker, environment).sweep()
    broker.close()
    broker.client.close()


def test_a_job_past_the_floor_and_the_share_is_held_and_says_why(
    db: Database, world: World, environment: Settings
) -> None:
    limit(db, world, floor=5, share=0.2)
    ids = world.enrolments(40)
    assert world.submit(db, ids[:8]).state == JobState.QUEUED, "8 of 40 learners are 20 %, not more"
    held = world.submit(db, ids[8:9])
    assert (held.state, held.held_because) == (JobState.HELD, "brake")
    assert held.brake == {"learners": 1, "before": 8, "population": 40, "floor": 5, "share": 0.2, "hours": 24}
    assert "8, the larger of 5 and 0.2 of 40 learners" in str(held.held_why)
    assert chunk_states(world, held) == {"waiting"}
    decide_due(db, environment)
    assert [world.status(one) for one in ids[7:9]] == ["withdrawn", "in_progress"]
    assert_balanced(db)


def test_below_the_floor_no_job_is_held_whatever_the_share(db: Database, world: World) -> None:
    limit(db, world, floor=10, share=0.2)
    assert world.submit(db, world.enrolments(10)).state == JobState.QUEUED


def test_one_person_at_a_time_counts_as_a_list_does(db: Database, world: World, environment: Settings) -> None:
    """ "across all sources (one webhook at a time counts too)"."""
    limit(db, world, floor=3)
    ids = [world.enrolment(f"person-{n}") for n in range(6)]
    world.submit(db, ids[:1])
    world.submit(db, ids[1:2], source="admin")
    assert world.event(db, "deactivated", "person-2").status == "accepted"
    receipt = world.event(db, "deactivated", "person-3")
    assert receipt.status == "held"
    assert receipt.job_id
    assert world.active("person-3") is False, "the person's state follows the event, whatever the brake says"
    request = JobRequest(reason="not_required", learner_external_id="person-4")
    assert submit(db, world.requester(), request).job.state == JobState.HELD
    assert_balanced(db)


def test_a_learner_counts_once_in_a_job_and_twice_in_two(db: Database, world: World) -> None:
    limit(db, world, floor=2)
    ids = [world.enrolment("anna") for _ in range(5)]
    assert world.submit(db, [*ids[:3], 999_999]).state == JobState.QUEUED
    assert world.submit(db, ids[3:4]).state == JobState.QUEUED
    assert brake.show(db, organisation_id=world.organisation_id).volume == 2
    assert world.submit(db, ids[4:]).state == JobState.HELD


def test_a_scheduled_job_is_held_when_it_falls_due(db: Database, world: World, environment: Settings) -> None:
    limit(db, world, floor=3)
    later = datetime.now(UTC) + timedelta(days=1)
    job = world.submit(db, world.enrolments(4), effective_at=later)
    assert job.state == JobState.SCHEDULED
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=job.id)
    sweep(db, environment)
    assert now(db, world, job).state == JobState.HELD
    assert chunk_states(world, job) == {"waiting"}
    assert_balanced(db)


def test_held_cancelled_and_superseded_jobs_do_not_count(db: Database, world: World) -> None:
    limit(db, world, floor=4)
    world.enrolments(6)
    held = world.submit(db, world.enrolments(5))
    assert held.state == JobState.HELD
    gone = world.submit(db, world.enrolments(3))
    world.enrolment("anna")
    assert world.event(db, "deactivated", "anna").status == "accepted"
    assert world.submit(db, world.enrolments(1)).state == JobState.HELD, "3 + 1 are in the window"
    cancel(db, organisation_id=world.organisation_id, job_id=gone.id, actor="test:admin")
    world.event(db, "reactivated", "anna")
    assert world.submit(db, world.enrolments(4)).state == JobState.QUEUED
    assert_balanced(db)


def test_a_job_cancelled_after_it_began_counts_those_whom_it_withdrew(
    db: Database, world: World, environment: Settings
) -> None:
    """Else a large job could be cancelled near its end to make room for the next."""
    limit(db, world, floor=4)
    job = world.submit(db, world.enrolments(4), chunk_size=2)
    world.run(
        """UPDATE withdrawals.chunks SET run_after = now() + interval '1 hour'
        WHERE id = (SELECT max(id) FROM withdrawals.chunks)"""
    )
    decide_due(db, environment)
    cancel(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:admin")
    assert now(db, world, job).outcomes == {"withdrawn": 2, "cancelled": 2}
    assert brake.show(db, organisation_id=world.organisation_id).volume == 2
    assert world.submit(db, world.enrolments(3)).state == JobState.HELD
    assert world.submit(db, world.enrolments(2)).state == JobState.QUEUED
    assert_balanced(db)


def test_work_outside_the_window_counts_no_longer(db: Database, world: World) -> None:
    limit(db, world, floor=4, hours=2)
    first = world.submit(db, world.enrolments(4))
    assert world.submit(db, world.enrolments(1)).state == JobState.HELD
    world.run("UPDATE withdrawals.brake_volume SET minute = minute - interval '3 hours'")
    world.run("UPDATE withdrawals.jobs SET admitted_at = admitted_at - interval '3 hours' WHERE id = :i", i=first.id)
    assert world.submit(db, world.enrolments(4)).state == JobState.QUEUED


def test_learners_deactivated_in_the_window_are_part_of_the_population(
    db: Database, world: World, environment: Settings
) -> None:
    for number in range(10):
        world.enrolment(f"person-{number}")
    for number in range(5):
        world.event(db, "deactivated", f"person-{number}")
    decide_due(db, environment)
    found = brake.show(db, organisation_id=world.organisation_id)
    assert (found.volume, found.population) == (5, 10)
    world.run("UPDATE withdrawals.persons SET effective_at = now() - interval '2 days'")
    assert brake.show(db, organisation_id=world.organisation_id).population == 5


def test_the_figures_are_counted_again_from_the_jobs(db: Database, world: World) -> None:
    """What is kept by the minute is a cache: whatever harmed it is put right before anything is held."""
    limit(db, world, floor=4)
    world.submit(db, world.enrolments(2))
    world.run("UPDATE withdrawals.brake_volume SET jobs = 1000")
    assert world.submit(db, world.enrolments(2)).state == JobState.QUEUED


def test_only_a_second_person_releases_and_it_is_not_held_again(
    db: Database, world: World, environment: Settings
) -> None:
    limit(db, world, floor=1)
    ids = world.enrolments(3)
    held = world.submit(db, ids)
    with pytest.raises(OwnJobError, match="another approver"):
        release(db, world, held, actor=held.requested_by)
    assert now(db, world, held).state == JobState.HELD
    assert release(db, world, held).state == JobState.QUEUED
    assert release(db, world, held).state == JobState.QUEUED, "asked again it is the same"
    decide_due(db, environment)
    assert now(db, world, held).outcomes == {"withdrawn": 3}
    assert brake.show(db, organisation_id=world.organisation_id).volume == 3, "released work counts"
    acts = world.run("SELECT actor, detail ->> 'held_because' FROM withdrawals.audit WHERE action = 'job.release'")
    assert [tuple(row) for row in acts] == [("test:approver", "brake")]
    assert_balanced(db)


@pytest.mark.parametrize(
    ("actor", "made_by"), [("cli:ADA", None), ("token:bob", "token:ada"), ("cli:root", None), ("token:ada", None)]
)
def test_no_second_name_of_a_person_releases_what_they_requested(
    db: Database, world: World, actor: str, made_by: str | None
) -> None:
    """As for limits: a name with another case or door, whoever made the token, and whose token they made."""
    limit(db, world, floor=0)
    tokens.create(db, organisation_id=world.organisation_id, name="ada", role="operator", actor="cli:root")
    requester = Requester(world.organisation_id, "token:ada", "api", "key")
    held = submit(db, requester, JobRequest(reason="not_required", enrolment_ids=world.enrolments(2))).job
    org, wanted = world.organisation_id, ReleaseFilter(held_because="brake")
    with pytest.raises(OwnJobError, match="not a second person"):
        control.release(db, organisation_id=org, job_id=held.id, actor=actor, made_by=made_by)
    seen = control.preview_release(db, organisation_id=org, wanted=wanted, actor=actor, made_by=made_by)
    assert (seen.released, seen.own) == (0, 1)
    done = control.release_matching(db, organisation_id=org, wanted=wanted, actor=actor, made_by=made_by)
    assert (done.released, done.own) == (0, 1)
    assert control.release_matching(db, organisation_id=org, wanted=wanted, actor="token:eve").released == 1


def test_a_job_released_before_its_time_waits_for_it_and_is_not_held_again(
    db: Database, world: World, environment: Settings
) -> None:
    limit(db, world, floor=1)
    held = world.submit(db, world.enrolments(3))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    control.move(
        db, organisation_id=world.organisation_id, job_id=held.id, effective_at=tomorrow, actor="test:operator"
    )
    assert now(db, world, held).state == JobState.HELD
    assert release(db, world, held).state == JobState.SCHEDULED
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=held.id)
    sweep(db, environment)
    assert now(db, world, held).state == JobState.QUEUED


def test_a_job_that_is_not_held_cannot_be_released(db: Database, world: World) -> None:
    queued = world.submit(db, world.enrolments(1))
    limit(db, world, floor=1)
    held = world.submit(db, world.enrolments(3))
    cancel(db, organisation_id=world.organisation_id, job_id=held.id, actor="test:admin")
    world.enrolment("anna")
    job_id = world.event(db, "deactivated", "anna").job_id
    world.event(db, "reactivated", "anna")
    for one, why in ((queued.id, "not held"), (held.id, "cancelled"), (job_id, "superseded")):
        with pytest.raises(ConflictError, match=why):
            control.release(db, organisation_id=world.organisation_id, job_id=one or 0, actor="test:approver")
    assert_balanced(db)


def test_a_release_by_filter_leaves_the_actors_own_jobs_held(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(db, world, floor=0)
    people = [f"person-{number}" for number in range(12)]
    for person in people:
        world.enrolment(person)
        world.event(db, "deactivated", person)
    own = world.submit(db, world.enrolments(2))
    monkeypatch.setattr(ledger, "list_held", partial(ledger.list_held, limit=5))  # several batches
    org = world.organisation_id
    with pytest.raises(InvalidInputError, match="at least one condition"):
        control.release_matching(db, organisation_id=org, wanted=ReleaseFilter(), actor="test:approver")
    none = control.release_matching(db, organisation_id=org, wanted=ReleaseFilter(source="admin"), actor="x")
    assert (none.released, none.own) == (0, 0)
    wanted = ReleaseFilter(held_because="brake")
    world.run("UPDATE withdrawals.jobs SET requested_by = 'hr-feed' WHERE source = 'hr'")
    done = control.release_matching(db, organisation_id=org, wanted=wanted, actor="test:admin")
    assert (done.released, done.own) == (12, 1)
    assert now(db, world, own).state == JobState.HELD
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'job.release'") == 12
    again = control.release_matching(db, organisation_id=org, wanted=wanted, actor="test:other")
    assert (again.released, again.own) == (1, 0)
    decide_due(db, environment)
    assert brake.show(db, organisation_id=org).volume == 14
    assert_balanced(db)


def test_redrives_count_and_are_refused_instead_of_held(db: Database, world: World) -> None:
    limit(db, world, floor=3)
    world.enrolments(5)
    with db.begin() as connection:
        admission.count_or_refuse(connection, world.organisation_id, learners=2)
    with pytest.raises(BrakeError) as refused, db.begin() as connection:
        admission.count_or_refuse(connection, world.organisation_id, learners=2)
    assert refused.value.more["brake"]["before"] == 2
    assert world.submit(db, world.enrolments(2)).state == JobState.HELD, "what was counted stays counted"
    assert brake.show(db, organisation_id=world.organisation_id).volume == 2


def test_a_held_job_can_be_planned_again(db: Database, world: World) -> None:
    limit(db, world, floor=1)
    ids = world.enrolments(3)
    held = world.submit(db, ids)
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[0])
    found = plan.of_job(db, world.organisation_id, held.id)
    assert found.outcomes == {"withdrawn": 2, "enrolment_ended": 1}
    assert found.brake is True


def test_limits_follow_the_settings_until_an_organisation_has_its_own(
    db: Database, world: World, environment: Settings
) -> None:
    org = world.organisation_id
    assert brake.show(db, organisation_id=org).own == []
    wanted = BrakeSetting(share=0.5)
    for _ in range(2):
        found = brake.set_limits(db, organisation_id=org, wanted=wanted, actor="test:approver")
    assert (found.floor, found.share, found.hours, found.own) == (environment.brake_floor, 0.5, 24, ["share"])
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action = 'brake.set'") == 1
    assert brake.show(db, organisation_id=world.organisation("Other")).own == []


def test_a_job_that_was_moved_while_it_was_about_to_be_held_is_not_held_early(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(1), effective_at="2199-01-01T00:00:00Z")
    with db.begin() as connection:
        assert not job_ledger.hold(connection, job.id, because="brake", figures={"learners": 1})
    assert now(db, world, job).state == JobState.SCHEDULED
