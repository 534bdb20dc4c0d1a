"""An HR system that says the same every night undoes nothing: neither a hold, nor a release, nor what is under way.

The newest event still decides (decision record 0006): another effective time, another source or a return in between is
not a repetition (decision record 0019).
"""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.control import BrakeSetting
from tests.support.load import MORE
from tests.support.racing import falls_due, job_state
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake, control
from worker.people import hr_sources
from worker.people.events import EventReceipt
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER, LATEST = datetime(2999, 1, 1, tzinfo=UTC), datetime(2999, 6, 1, tzinfo=UTC)
APPROVER = "test:approver"
_numbers = itertools.count(1)


def source(db: Database, world: World, settings: Settings, policy: str, name: str = "", grace: int = 0) -> str:
    """A source with a policy; its name."""
    made = hr_sources.create(
        db, settings, organisation_id=world.organisation_id, name=name or policy, kind="standard", actor=APPROVER,
        on_deactivate=policy, grace_hours=grace,
    )  # fmt: skip
    return made.source.name


def away(db: Database, world: World, source: str, night: int, person: str = "anna", **event: Any) -> EventReceipt:
    """The deactivation as it is sent in a night."""
    return world.event(db, "deactivated", person, source=source, occurred_at=START + timedelta(days=night), **event)


def release(db: Database, world: World, job_id: int | None) -> None:
    control.release(db, organisation_id=world.organisation_id, job_id=job_id or 0, actor=APPROVER)


def jobs(world: World) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in world.run("SELECT state, released_by FROM withdrawals.jobs ORDER BY id")]


def sweep(db: Database, environment: Settings) -> None:
    broker = make_broker(environment.broker_url.get_secret_value())
    Relay(db, broker, environment).sweep()
    broker.close()
    broker.client.close()


def test_a_held_deactivation_that_is_repeated_stays_one_held_job(
    db: Database, world: World, environment: Settings
) -> None:
    world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    receipts = [away(db, world, holds, night) for night in range(3)]
    assert {(receipt.status, receipt.job_id) for receipt in receipts} == {("held", receipts[0].job_id)}
    assert len({receipt.id for receipt in receipts}) == 3, "each event has a receipt of its own"
    assert jobs(world) == [("held", None)]
    assert_balanced(db)


def test_a_release_outlasts_the_nights_before_and_after_it_is_applied(
    db: Database, world: World, environment: Settings
) -> None:
    enrolment_id = world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    job_id = away(db, world, holds, 1).job_id
    release(db, world, job_id)
    assert away(db, world, holds, 2).status == "accepted"
    assert jobs(world) == [("queued", APPROVER)]
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert away(db, world, holds, 3).job_id == job_id
    assert jobs(world) == [("completed", APPROVER)], "nothing waits for a second person again"
    assert_balanced(db)


def test_a_held_job_that_was_cancelled_is_not_asked_for_again(
    db: Database, world: World, environment: Settings
) -> None:
    """The second person has decided; the person stays inactive."""
    enrolment_id = world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    job_id = away(db, world, holds, 1).job_id
    control.cancel(db, organisation_id=world.organisation_id, job_id=job_id or 0, actor=APPROVER)
    again = away(db, world, holds, 2)
    assert (again.status, again.job_id) == ("noted", job_id)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "in_progress"
    assert not world.active("anna")


def test_a_repetition_does_not_lift_the_hold_of_the_brake(db: Database, world: World, environment: Settings) -> None:
    wanted = BrakeSetting(floor=0, share=0.0, hours=24)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor=APPROVER)
    world.enrolment("anna")
    job_id = away(db, world, "hr", 1).job_id
    wanted = BrakeSetting(floor=100, share=0.5, hours=24)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor=APPROVER)
    assert away(db, world, "hr", 2).job_id == job_id
    assert jobs(world) == [("held", None)]


def test_a_paused_deactivation_stays_paused_when_it_is_repeated(db: Database, world: World) -> None:
    world.enrolment("anna")
    job_id = away(db, world, "hr", 1).job_id
    control.pause(db, organisation_id=world.organisation_id, job_id=job_id or 0, actor=APPROVER)
    assert away(db, world, "hr", 2).job_id == job_id
    assert jobs(world) == [("paused", None)]


@pytest.mark.parametrize(("first", "second"), [(LATER, LATEST), (LATEST, LATER), (LATER, None), (None, LATER)])
def test_another_effective_time_of_the_same_source_does_change_it(
    db: Database, world: World, environment: Settings, first: datetime | None, second: datetime | None
) -> None:
    """Postponed or earlier: what was released for another time is asked for again."""
    world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    release(db, world, away(db, world, holds, 1, effective_at=first).job_id)
    assert away(db, world, holds, 2, effective_at=second).status == "held"
    assert jobs(world) == [("superseded", APPROVER), ("held", None)]
    assert world.active("anna") is (second is not None)
    assert_balanced(db)


def test_the_same_future_day_every_night_is_one_scheduled_job(
    db: Database, world: World, environment: Settings
) -> None:
    """Released before its day, it waits for it, whatever the nights between say."""
    enrolment_id = world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    job_id = away(db, world, holds, 1, effective_at=LATER).job_id
    release(db, world, job_id)
    assert away(db, world, holds, 2, effective_at=LATER).status == "scheduled"
    falls_due(world)
    assert away(db, world, holds, 3).job_id == job_id, "in effect by now, and sent without a date"
    sweep(db, environment)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert jobs(world) == [("completed", APPROVER)]
    assert_balanced(db)


def test_after_a_return_the_deactivation_is_held_again(db: Database, world: World, environment: Settings) -> None:
    world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    release(db, world, away(db, world, holds, 1).job_id)
    world.event(db, "reactivated", "anna", source=holds, occurred_at=START + timedelta(days=2))
    assert away(db, world, holds, 3).status == "held"
    assert jobs(world) == [("superseded", APPROVER), ("held", None)]


@pytest.mark.parametrize("moved", [False, True])
def test_a_day_still_to_come_activates_nobody_each_night(db: Database, world: World, moved: bool) -> None:
    """The platform has made the learner inactive by itself; the deactivation has changed nothing yet."""
    learner = world.learner("anna")
    world.run("UPDATE lms.learners SET active = false WHERE id = :id", id=learner)
    for night in range(2):
        away(db, world, "hr", night, effective_at=LATER + timedelta(days=night * moved))
        assert world.one("SELECT active FROM lms.learners WHERE id = :id", id=learner) is False


def test_a_night_that_arrives_late_changes_nothing(db: Database, world: World, environment: Settings) -> None:
    world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    release(db, world, away(db, world, holds, 3).job_id)
    assert away(db, world, holds, 2).status == "ignored"
    assert jobs(world) == [("queued", APPROVER)]


def test_another_source_holds_nothing_that_a_second_person_has_released(
    db: Database, world: World, environment: Settings
) -> None:
    enrolment_id = world.enrolment("anna")
    first, second = (source(db, world, environment, "hold", name) for name in ("one", "two"))
    job_id = away(db, world, first, 1).job_id
    release(db, world, job_id)
    assert away(db, world, second, 2).job_id == job_id
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert [away(db, world, name, night).job_id for night, name in ((3, first), (4, second))] == [job_id, job_id]
    assert jobs(world) == [("completed", APPROVER)]


@pytest.mark.parametrize(("policy", "status"), [("withdraw", "withdrawn"), ("ignore", "in_progress")])
def test_the_policy_of_another_source_still_decides_what_is_held(
    db: Database, world: World, environment: Settings, policy: str, status: str
) -> None:
    """Decision record 0009: "The policy is that of the source whose event decides"."""
    enrolment_id = world.enrolment("anna")
    away(db, world, source(db, world, environment, "hold"), 1)
    away(db, world, source(db, world, environment, policy), 2)
    assert jobs(world)[0] == ("superseded", None)
    decide_due(db, environment)
    assert world.status(enrolment_id) == status
    assert_balanced(db)


def test_who_was_enrolled_again_is_withdrawn_by_the_next_night(
    db: Database, world: World, environment: Settings
) -> None:
    """A source that withdraws: its job has ended, so the repetition finds what came since."""
    world.enrolment("anna")
    first = away(db, world, "hr", 1).job_id
    decide_due(db, environment)
    again = world.enrolment("anna")
    second = away(db, world, "hr", 2)
    decide_due(db, environment)
    assert second.job_id != first
    assert world.status(again) == "withdrawn"
    assert_balanced(db)


def test_a_learner_whom_the_platform_made_active_is_inactive_after_the_next_night(
    db: Database, world: World, environment: Settings
) -> None:
    world.enrolment("anna")
    holds = source(db, world, environment, "hold")
    away(db, world, holds, 1)
    world.run("UPDATE lms.learners SET active = true")
    away(db, world, holds, 2)
    assert not world.active("anna")


def test_a_letter_of_a_deactivation_stands_after_the_next_night(
    db: Database, world: World, environment: Settings
) -> None:
    """The person's epoch stays, so what support does with the letters of the first night is not superseded."""
    world.enrolment("anna", pathway_id=world.pathway())
    away(db, world, "hr", 1)
    decide_due(db, environment)
    epoch = world.one("SELECT epoch FROM withdrawals.persons")
    away(db, world, "hr", 2)
    assert world.one("SELECT epoch FROM withdrawals.persons") == epoch


def test_a_person_held_for_a_later_day_counts_from_the_release_on(
    db: Database, world: World, environment: Settings
) -> None:
    world.enrolment("anna")
    job_id = away(db, world, source(db, world, environment, "hold"), 1, effective_at=LATER).job_id
    world.run("UPDATE withdrawals.jobs SET effective_at = now()")
    release(db, world, job_id)
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1


def test_a_held_person_who_counted_nobody_counts_when_withdrawn(
    db: Database, world: World, environment: Settings
) -> None:
    """The release keeps its minute of the brake's window, so that the correction finds it."""
    enrolment_id = world.enrolment("anna", "mastered")
    job_id = away(db, world, source(db, world, environment, "hold"), 1).job_id
    release(db, world, job_id)
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :id", id=enrolment_id)
    decide_due(db, environment)
    assert world.status(enrolment_id) == "withdrawn"
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 1
    assert_balanced(db)


ACTS = ("night", "late night", "release", "apply", "due")


def test_nights_and_acts_in_any_order_make_one_job_that_is_released_once(
    db: Database, world: World, environment: Settings
) -> None:
    """Whatever comes between: there is one job, and it withdraws once it was released, is due and was applied."""
    names = {grace: source(db, world, environment, "hold", f"grace-{grace}", grace) for grace in (0, 48)}

    @settings(max_examples=MORE * 20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.sampled_from(ACTS), max_size=8), st.sampled_from([0, 48]), st.booleans())
    def hold(acts: list[str], grace: int, later: bool) -> None:
        person = f"person-{next(_numbers)}"
        enrolment_id = world.enrolment(person)
        when = {"effective_at": LATER} if later else {}
        job_id = away(db, world, names[grace], 10, person, **when).job_id
        assert job_id is not None
        nights, is_due, released, applied = itertools.count(11), grace == 0 and not later, False, False
        for act in acts:
            match act:
                case "night":
                    # Sent with its day, or, once that has come, without one.
                    said = when if not is_due or grace else {}
                    assert away(db, world, names[grace], next(nights), person, **said).job_id == job_id
                case "late night":
                    assert away(db, world, names[grace], 5, person, **when).status == "ignored"
                case "release":
                    release(db, world, job_id)
                    released = True
                case "due":
                    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE id = :id", id=job_id)
                    if later and not grace:
                        world.run(
                            "UPDATE withdrawals.person_events SET effective_at = now() WHERE external_id = :p",
                            p=person,
                        )
                    sweep(db, environment)
                    is_due = True
                case _:
                    decide_due(db, environment)
                    applied = applied or (released and is_due)
            assert world.one("SELECT count(*) FROM withdrawals.jobs WHERE learner_external_id = :p", p=person) == 1
        assert world.status(enrolment_id) == ("withdrawn" if applied else "in_progress")
        expected = {"held"} if not released else {"scheduled", "queued", "completed"}
        assert job_state(world, job_id) in expected

    hold()
    assert_balanced(db)
