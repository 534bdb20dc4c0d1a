"""What the brake counts: learners whom the rules would withdraw, at admission; and at the end those whom the job did.

"Undo is not counted and not held … and gives its learners back to the window. One learner withdrawn by a signed-in
person is counted and never held."
"""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, text

from schemas.catalogue import JobState
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterAct
from schemas.jobs import JobRequest
from schemas.reinstate import ReinstateFilter, ReinstateRequest
from tests.support.racing import job_state
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.jobs import admission, brake, control, plan, reinstate
from worker.jobs.submit import submit
from worker.ledger import approvals, attempts_preview, brake_correction
from worker.ledger import brake as ledger
from worker.ledger import jobs as ledger_jobs
from worker.queue import leftovers
from worker.queue.leftovers import LargeJobs
from worker.records import Job

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def on_read(world: World, what: str) -> None:
    """Do this for each enrolment that the service reads from now on."""
    world.run(f"CREATE FUNCTION public.reads() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {what} RETURN true; END $$")
    world.run("ALTER TABLE lms.enrolments ENABLE ROW LEVEL SECURITY")
    world.run("CREATE POLICY reads ON lms.enrolments USING (public.reads())")


def admit(db: Database, world: World, job_id: int) -> admission.Admission:
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=job_id)
    return db.run(lambda connection: admission.admit(connection, organisation_id=world.organisation_id, job_id=job_id))


def learners(world: World, job_id: int) -> int | None:
    found: int | None = world.one("SELECT learners FROM withdrawals.jobs WHERE id = :id", id=job_id)
    return found


def volume(db: Database, world: World) -> int:
    return brake.show(db, organisation_id=world.organisation_id).volume


def of_series(world: World, job_id: int) -> int:
    """What a job counts of all Series together."""
    return int(world.one("SELECT sum(learners) FROM withdrawals.brake_series WHERE job_id = :id", id=job_id))


def by_series(world: World, job_id: int) -> list[int]:
    """What a job counts of each Series, the oldest Series first."""
    rows = world.run("SELECT learners FROM withdrawals.brake_series WHERE job_id = :id ORDER BY series_id", id=job_id)
    return [row.learners for row in rows]


def limit_series(db: Database, world: World, limit: int) -> None:
    """Let so many learners be withdrawn from each Series in a window."""
    with db.begin() as connection:
        ledger_jobs.lock_settings(connection, world.organisation_id)
        approvals.set_rules(
            connection, world.organisation_id, [{"act": "withdraw_series", "source": None, "alone_up_to": limit}]
        )


def limit(db: Database, world: World, floor: int) -> None:
    wanted = BrakeSetting(floor=floor, share=0.0)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")


def of_every_kind(world: World) -> list[int]:
    """Three of two learners that the rules withdraw, and one for each other outcome."""
    return [
        world.enrolment("anna"),
        world.enrolment("anna", "waiting_to_start"),
        world.enrolment("boris", "no_attempts"),
        world.enrolment("clara", "mastered"),
        world.enrolment("dora", "withdrawn"),
        world.enrolment("emil", "on_hold"),
        world.enrolment("fritz", pathway_id=world.pathway()),
        world.enrolment("gerda", organisation_id=world.organisation("Other")),
        999_999,
    ]


@pytest.mark.parametrize("how", ["list", "set", "scheduled"])
def test_learners_count_whom_the_rules_would_withdraw(db: Database, world: World, how: str) -> None:
    ids = of_every_kind(world)
    chunk_size = 2 if how == "list" else 1000  # smaller jobs are accepted in sets
    job = world.submit(db, ids, chunk_size=chunk_size, effective_at=TOMORROW if how == "scheduled" else None)
    if how == "scheduled":
        assert volume(db, world) == 0, "it is not admitted yet"
        assert admit(db, world, job.id).admitted
    assert learners(world, job.id) == volume(db, world) == 2
    assert_balanced(db)


def test_the_limit_is_for_learners_whom_the_rules_would_withdraw(db: Database, world: World) -> None:
    limit(db, world, 1)
    ids = of_every_kind(world)
    assert world.submit(db, ids[2:]).state == JobState.QUEUED
    held = world.submit(db, ids[:2])
    assert (held.state, held.brake and held.brake["learners"]) == (JobState.HELD, 1)


def test_a_person_of_whom_nothing_would_be_withdrawn_does_not_count(
    db: Database, world: World, environment: Settings
) -> None:
    limit(db, world, 0)
    world.enrolment("ended", "mastered")
    world.enrolment("owned", pathway_id=world.pathway())
    world.enrolment("active")
    for person, state in (("ended", "queued"), ("owned", "queued"), ("nobody", "queued"), ("active", "held")):
        request = JobRequest(reason="not_required", learner_external_id=person)
        assert submit(db, world.requester(), request).job.state == state, person
        assert world.event(db, "deactivated", person).status == ("held" if state == "held" else "accepted"), person
    assert volume(db, world) == 0
    assert_balanced(db)


def test_a_scheduled_job_is_counted_by_what_its_enrolments_are_when_it_falls_due(db: Database, world: World) -> None:
    limit(db, world, 1)
    ids = world.enrolments(3)
    fewer, more = (world.submit(db, ids, effective_at=TOMORROW, chunk_size=size) for size in (2, 1000))
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = ANY(:ids)", ids=ids[:2])
    assert admit(db, world, fewer.id).admitted
    assert learners(world, fewer.id) == 1
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = ANY(:ids)", ids=ids[:2])
    assert admit(db, world, more.id).held


def test_a_job_that_is_moved_into_the_past_is_counted_then(db: Database, world: World) -> None:
    job = world.submit(db, world.enrolments(3), effective_at=TOMORROW)
    for when in (TOMORROW + timedelta(days=1), datetime.now(UTC) - timedelta(hours=1)):
        control.move(db, organisation_id=world.organisation_id, job_id=job.id, effective_at=when, actor="x")
    assert job_state(world, job.id) == JobState.QUEUED
    assert learners(world, job.id) == volume(db, world) == 3


def test_a_large_job_is_counted_without_a_limit_of_time(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy of the platform looks at the limit of each statement that reads; after the count it is back."""
    job_id = world.submit(db, world.enrolments(2), effective_at=TOMORROW).id
    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=job_id)
    monkeypatch.setattr(ledger, "AT_ONCE", 1)
    on_read(world, "IF current_setting('statement_timeout') <> '0' THEN RAISE 'with a limit'; END IF;")
    with db.begin() as connection:
        before = connection.scalar(text("SHOW statement_timeout"))
        found = admission.admit(connection, organisation_id=world.organisation_id, job_id=job_id)
        assert found.admitted
        assert connection.scalar(text("SHOW statement_timeout")) == before != "0"
    assert learners(world, job_id) == 2


def test_at_its_end_a_job_counts_those_whom_it_withdrew(db: Database, world: World, environment: Settings) -> None:
    ids = world.enrolments(6)
    fewer, same = world.submit(db, ids[:4], chunk_size=3), world.submit(db, ids[3:])
    assert volume(db, world) == 7, "one enrolment is asked for twice"
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = ANY(:ids)", ids=ids[:2])
    assert_balanced(db)
    decide_due(db, environment)
    assert (learners(world, fewer.id), learners(world, same.id), volume(db, world)) == (2, 2, 4)
    assert_balanced(db)


def test_a_person_counts_who_is_enrolled_between_the_admission_and_the_decision(
    db: Database, world: World, environment: Settings
) -> None:
    world.learner("anna")
    request = JobRequest(reason="not_required", learner_external_id="anna")
    job = submit(db, world.requester(), request).job
    assert volume(db, world) == 0
    world.enrolment("anna")
    decide_due(db, environment)
    assert learners(world, job.id) == volume(db, world) == 1
    assert_balanced(db)


def test_a_superseded_deactivation_gives_its_learner_back(db: Database, world: World) -> None:
    world.enrolment("anna")
    world.event(db, "deactivated", "anna")
    assert volume(db, world) == 1
    world.event(db, "reactivated", "anna")
    assert volume(db, world) == 0
    assert_balanced(db)


def undo(db: Database, world: World, job: Job, ids: list[int] | None = None) -> Job:
    part = ReinstateFilter(enrolment_ids=ids) if ids else None
    return reinstate.reinstate(db, world.requester(), job.id, ReinstateRequest(filter=part)).job


def test_an_undo_is_not_held_and_gives_its_learners_back(db: Database, world: World, environment: Settings) -> None:
    ids = [*world.enrolments(3), world.enrolment("anna"), world.enrolment("anna")]
    job = world.submit(db, ids)
    decide_due(db, environment)
    limit(db, world, 0)
    assert volume(db, world) == 4
    assert not reinstate.plan(db, world.organisation_id, job.id, None).brake
    part = undo(db, world, job, [ids[0], ids[3]])
    assert (part.state, learners(world, part.id)) == (JobState.QUEUED, 0)
    decide_due(db, environment)
    assert volume(db, world) == 3, "one of anna's two is withdrawn still"
    assert_balanced(db)
    undo(db, world, job)
    decide_due(db, environment)
    assert volume(db, world) == learners(world, job.id) == 0
    assert_balanced(db)


def test_an_undo_that_an_older_version_held_counts_nothing_when_released(
    db: Database, world: World, environment: Settings
) -> None:
    job = world.submit(db, world.enrolments(2))
    decide_due(db, environment)
    back = undo(db, world, job)
    world.run(
        "UPDATE withdrawals.jobs SET state = 'held', held_because = 'brake', learners = 2, admitted_at = NULL"
        " WHERE id = :id", id=back.id,
    )  # fmt: skip
    world.run("UPDATE withdrawals.chunks SET state = 'waiting' WHERE job_id = :id", id=back.id)
    control.release(db, organisation_id=world.organisation_id, job_id=back.id, actor="test:approver")
    assert volume(db, world) == 2
    decide_due(db, environment)
    assert volume(db, world) == 0
    assert_balanced(db)


@pytest.mark.parametrize("later", [False, True])
def test_one_learner_of_a_signed_in_person_counts_and_is_never_held(db: Database, world: World, later: bool) -> None:
    limit(db, world, 0)
    when = {"effective_at": TOMORROW} if later else {}
    anna = [world.enrolment("anna"), world.enrolment("anna")]
    expected = {"console": JobState.QUEUED, "cli": JobState.HELD, "api": JobState.HELD}
    for door, state in expected.items():
        request = JobRequest(reason="not_required", enrolment_ids=anna, **when)
        job = submit(db, world.requester(door=door), request).job
        if later:
            admit(db, world, job.id)
        assert job_state(world, job.id) == state, door
    assert volume(db, world) == 1
    two = JobRequest(reason="not_required", enrolment_ids=[anna[0], world.enrolment("boris")], **when)
    job = submit(db, world.requester(door="console"), two).job
    if later:
        admit(db, world, job.id)
    assert job_state(world, job.id) == JobState.HELD
    assert_balanced(db)


def test_an_attempt_at_a_letter_counts_if_it_would_withdraw(db: Database, world: World, environment: Settings) -> None:
    pathway = world.pathway()
    for learner in ("anna", "boris"):
        world.submit(db, [world.enrolment(learner, pathway_id=pathway), world.enrolment(learner, "on_hold")])
    decide_due(db, environment)
    letters = [row.id for row in world.letters()]
    world.run("UPDATE lms.enrolments SET pathway_id = NULL WHERE id = (SELECT min(id) FROM lms.enrolments)")
    with db.begin() as connection:
        counted = {
            act: attempts_preview.count_learners(connection, world.organisation_id, letters, act)
            for act in (LetterAct.REDRIVE, LetterAct.OVERRIDE)
        }
    assert counted == {LetterAct.REDRIVE: 1, LetterAct.OVERRIDE: 2}


def test_a_plan_says_what_the_brake_will_do_and_the_way_on(db: Database, world: World, environment: Settings) -> None:
    limit(db, world, 3)
    used = world.submit(db, world.enrolments(2))
    ids = of_every_kind(world)
    request = JobRequest(reason="not_required", enrolment_ids=ids)
    found = plan.of_request(db, world.organisation_id, request)
    forecast = found.brake_forecast
    assert (found.brake, forecast.holds, found.brake_why) == (True, True, forecast.why)
    assert (forecast.learners, forecast.used, forecast.limit, forecast.hours) == (2, 2, 3, 24)
    assert [(one.job_id, one.learners) for one in forecast.used_by] == [(used.id, 2)]
    assert forecast.room_at is not None
    assert timedelta(hours=23) < forecast.room_at - datetime.now(UTC) < timedelta(hours=25)
    assert forecast.way_on is not None
    assert "approver" in forecast.way_on
    assert submit(db, world.requester(), request).job.state == JobState.HELD
    one = JobRequest(reason="not_required", enrolment_ids=ids[:1])
    assert not plan.of_request(db, world.organisation_id, one).brake_forecast.holds
    too_many = JobRequest(reason="not_required", enrolment_ids=world.enrolments(4))
    assert plan.of_request(db, world.organisation_id, too_many).brake_forecast.room_at is None
    limit(db, world, 0)
    by_door = {door: plan.of_request(db, world.organisation_id, one, door=door).brake for door in ("api", "console")}
    assert by_door == {"api": True, "console": False}


def test_a_person_who_counted_nobody_when_admitted_counts_when_withdrawn(
    db: Database, world: World, environment: Settings
) -> None:
    """The first of its minute: the minute is kept at the admission, so that the correction finds it."""
    enrolment_id = world.enrolment("anna", "mastered")
    world.event(db, "deactivated", "anna")
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :id", id=enrolment_id)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert volume(db, world) == 1
    assert_balanced(db)


def test_of_undos_at_once_each_learner_is_given_back_once(db: Database, world: World, environment: Settings) -> None:
    """Anna's three are taken back by three undos, of which two end together; Boris keeps one.

    What an attempt at a letter withdrew, of Anna and of Clara, was counted with the attempt.
    """
    limit_series(db, world, 100)
    pathway = world.pathway()
    owned, kept = (world.enrolment(name, pathway_id=pathway) for name in ("clara", "anna"))
    anna, boris = ([world.enrolment(name) for _ in range(3)] for name in ("anna", "boris"))
    job = world.submit(db, [*anna, *boris, owned, kept])
    decide_due(db, environment)
    letters = [row.id for row in world.letters()]
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=letters, remedy=LetterAct.OVERRIDE, actor="x", note="y"
    )
    decide_due(db, environment)
    assert (learners(world, job.id), world.status(owned), world.status(kept)) == (2, "withdrawn", "withdrawn")
    assert of_series(world, job.id) == 6, "each has one enrolment in a Series"
    undo(db, world, job, [anna[0], boris[0]])
    decide_due(db, environment)
    assert (learners(world, job.id), of_series(world, job.id)) == (2, 4)
    undos = [undo(db, world, job, [anna[1]]), undo(db, world, job, [anna[2], boris[1], owned])]
    decide_due(db, environment)
    assert (learners(world, job.id), of_series(world, job.id)) == (1, 1)
    back = "SELECT sum(learners_back) FROM withdrawals.chunks WHERE job_id = ANY(:ids)"
    assert world.one(back, ids=[one.id for one in undos]) == 1
    assert_balanced(db)


def test_a_job_that_is_admitted_again_or_withdraws_others_counts_each_series_anew(
    db: Database, world: World, environment: Settings
) -> None:
    """A job that was held, moved and released; persons who lose and get enrolments before they are decided about."""
    limit_series(db, world, 100)
    limit(db, world, 0)
    ids = [world.enrolment(name) for name in ("anna", "dora", "emil")]
    job = world.submit(db, ids)
    assert (job.state, by_series(world, job.id)) == (JobState.HELD, [1, 1, 1])
    control.move(db, organisation_id=world.organisation_id, job_id=job.id, effective_at=TOMORROW, actor="x")
    control.release(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:approver")
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = ANY(:ids)", ids=ids[:2])
    assert admit(db, world, job.id).admitted
    assert by_series(world, job.id) == [0, 0, 1]
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :id", id=ids[0])
    decide_due(db, environment)
    assert by_series(world, job.id) == [1, 0, 1], "from its end on whom it withdrew"

    limit(db, world, 1000)
    lost = [world.enrolment("boris"), world.enrolment("boris")]
    world.enrolment("clara", "mastered")
    jobs = [
        submit(db, world.requester(), JobRequest(reason="not_required", learner_external_id=one)).job.id
        for one in ("boris", "clara")
    ]
    assert [by_series(world, one) for one in jobs] == [[1, 1], []]
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=lost[0])
    world.enrolment("clara")
    decide_due(db, environment)
    assert [by_series(world, one) for one in jobs] == [[0, 1], [1]]
    assert_balanced(db)


def test_a_large_job_is_corrected_in_slices_and_an_undo_meanwhile_counts_once(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay dies between two slices: nothing is written, and the next one begins again."""
    monkeypatch.setattr(brake_correction, "SLICE", 2)
    monkeypatch.setattr(LargeJobs, "SLICES", 1)
    limit_series(db, world, 100)
    ids = [*world.enrolments(4), world.enrolment("anna"), world.enrolment("anna")]
    job = world.submit(db, ids)
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :id", id=ids[0])
    decide_due(db, environment)
    assert job_state(world, job.id) == JobState.COMPLETED_WITH_EXCEPTIONS
    first = LargeJobs()
    assert first.correct(db) == first.correct(db) == []
    undo(db, world, job, [ids[1], ids[4]])  # of more than a slice, an undo is not large: its chunks have counted
    decide_due(db, environment)
    assert (learners(world, job.id), volume(db, world)) == (5, 5), "it is still to be corrected"
    assert of_series(world, job.id) == 6
    assert_balanced(db)
    second = LargeJobs()
    assert [second.correct(db) for _ in range(4)] == [[], [], [], [job.id]]
    assert first.correct(db) == first.correct(db) == [], "what the first one has read is not written any more"
    assert (learners(world, job.id), volume(db, world), of_series(world, job.id)) == (3, 3, 3)
    undo(db, world, job)
    decide_due(db, environment)
    assert learners(world, job.id) == volume(db, world) == of_series(world, job.id) == 0
    assert_balanced(db)


def test_a_large_job_that_cannot_be_corrected_holds_up_no_other(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brake_correction, "SLICE", 2)
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(leftovers, "time", clock)
    jobs = [world.submit(db, world.enrolments(3)) for _ in "12"]
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id IN (1, 4)")
    decide_due(db, environment)
    relay, read, broken = LargeJobs(), brake_correction.read_slice, [jobs[0].id]

    def read_slice(connection: Connection, job_id: int, *, after: int) -> brake_correction.Slice:
        if job_id in broken:
            raise ValueError("a broken job")
        return read(connection, job_id, after=after)

    monkeypatch.setattr(brake_correction, "read_slice", read_slice)
    with pytest.raises(ValueError, match="a broken job"):
        relay.correct(db)
    assert relay.correct(db) == [jobs[1].id]
    assert relay.correct(db) == [], "the broken one is passed over for a while"
    broken.clear()
    clock.monotonic = lambda: 60.0
    assert relay.correct(db) == [jobs[0].id]
    assert (learners(world, jobs[0].id), volume(db, world)) == (2, 4)
    assert_balanced(db)
