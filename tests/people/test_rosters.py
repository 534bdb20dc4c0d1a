"""A full roster is compared with the platform and the events, and withdraws the people who left, once."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from schemas.catalogue import JobState
from schemas.rosters import Roster, RosterPlan, RosterRequest
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError
from worker.jobs.files.faults import FileFaultsError
from worker.jobs.show import show
from worker.people import rosters
from worker.people.rosters import RosterRefusedError

NOW = datetime.now(UTC).replace(microsecond=0)
MORNING = NOW - timedelta(hours=6)


def plan(db: Database, world: World, content: str | bytes, as_of: datetime = MORNING, **wanted: str) -> RosterPlan:
    """Plan a roster file."""
    raw = content.encode() if isinstance(content, str) else content
    request = RosterRequest(as_of=as_of, **wanted)
    return rosters.plan_file(
        db,
        organisation_id=world.organisation_id,
        actor="cli:ada",
        wanted=request,
        stream=io.BytesIO(raw),
        name="all.csv",
    )


def csv(**people: str) -> str:
    """A roster of these people and their states."""
    return "\n".join(["Employee ID;Status", *(f"{person};{state}" for person, state in people.items())])


def accept(db: Database, world: World, planned: RosterPlan) -> Roster:
    """Confirm a roster and apply it, as the relay does."""
    confirmed = rosters.confirm(db, organisation_id=world.organisation_id, roster_id=planned.id, actor="cli:ada")
    while rosters.apply_accepted(db):
        pass
    rosters.apply_accepted(db)
    return rosters.show(db, organisation_id=world.organisation_id, roster_id=confirmed.id)


def enrol(world: World, *learners: str) -> dict[str, int]:
    """An enrolment each, since yesterday."""
    made = {learner: world.enrolment(learner) for learner in learners}
    world.run("UPDATE lms.enrolments SET enrolled_at = :at", at=NOW - timedelta(days=1))
    return made


def test_a_roster_withdraws_who_left_and_nobody_else(db: Database, world: World, environment: Settings) -> None:
    """The story of one roster: the plan says what is done, newer events win, and it is done once."""
    ids = enrol(world, "anna", "ben", "carla", "dora", "emil", "fred", "gina")
    world.event(
        db, "deactivated", "dora", occurred_at=MORNING - timedelta(hours=2), effective_at=NOW + timedelta(days=9)
    )
    world.event(db, "deactivated", "emil", occurred_at=MORNING - timedelta(hours=2))
    world.event(
        db, "deactivated", "gina", occurred_at=MORNING - timedelta(hours=2), effective_at=MORNING - timedelta(hours=1)
    )
    roster = csv(
        anna="active", ben="Terminated", dora="on leave", emil="active", fred="inactive", hugo="active", gina="no"
    )
    planned = plan(db, world, roster)

    assert planned.findings == {
        "inactive": 2, "missing": 1, "announced": 1, "active_again": 1, "unknown_to_platform": 1, "under_way": 1,
    }  # fmt: skip
    assert [(one.line, one.learner_external_id) for one in planned.samples["inactive"]] == [(3, "ben"), (6, "fred")]
    assert [(one.line, one.learner_external_id) for one in planned.samples["missing"]] == [(None, "carla")]
    assert planned.plan is not None
    assert planned.plan.outcomes == {"withdrawn": 3}

    # Fred comes back after the roster was made, and the event arrives before it is confirmed: his event is newer.
    world.event(db, "reactivated", "fred", occurred_at=NOW - timedelta(hours=1))
    with pytest.raises(ConflictError, match="3 people left, now it would be 2"):
        rosters.confirm(db, organisation_id=world.organisation_id, roster_id=planned.id, actor="cli:ada")
    done = accept(db, world, plan(db, world, roster))
    assert (done.state, done.job_id is None) == ("done", False)
    decide_due(db, environment)

    left = {learner for learner, enrolment in ids.items() if world.status(enrolment) == "withdrawn"}
    assert left == {"ben", "carla", "gina"}
    assert [person for person in ids if not world.active(person)] == ["ben", "carla", "gina"]
    job = show(db, organisation_id=world.organisation_id, job_id=done.job_id or 0)
    assert (job.source, job.reason, job.state, job.outcomes) == (
        "hr", "user_deactivated", JobState.COMPLETED, {"withdrawn": 2},
    )  # fmt: skip
    assert_balanced(db)

    # The same roster again is the same, and does nothing.
    assert plan(db, world, roster).id == done.id
    assert (
        rosters.confirm(db, organisation_id=world.organisation_id, roster_id=done.id, actor="cli:bea").job_id == job.id
    )


def test_what_is_not_a_whole_new_roster_is_refused(db: Database, world: World) -> None:
    """Nothing of it is read as: everybody left."""
    enrol(world, "anna", "ben", "carla", "dora", "emil")
    everybody = csv(anna="active", ben="active", carla="active", dora="active", emil="active")
    for content, error, message in (
        ("", InvalidInputError, "empty"),
        ("Employee ID\n", RosterRefusedError, "has no people"),
        ("name;status\nAnna;active", InvalidInputError, "no column `learner_external_id`"),
        (b"\xff\xfe\x00\x00", InvalidInputError, "NUL"),
        (csv(anna="active", ben="active"), RosterRefusedError, "Only 2 of the 5 active learners"),
        (csv(anna="active", ben="maybe"), FileFaultsError, "Line 3: active: is neither active nor inactive"),
        ("id;Employee ID\n1;anna\n1;\n", FileFaultsError, "Line 3: learner_external_id: is missing"),
        (
            "Employee ID;Status\nanna;active\nanna;left",
            FileFaultsError,
            "Line 3: this person stands in the roster twice",
        ),
    ):
        with pytest.raises(error, match=message):
            plan(db, world, content)
    with pytest.raises(InvalidInputError, match="in the future"):
        plan(db, world, everybody, NOW + timedelta(days=1))

    last = accept(db, world, plan(db, world, everybody))
    assert (last.job_id, world.one("SELECT count(*) FROM withdrawals.jobs")) == (None, 0)
    with pytest.raises(RosterRefusedError, match=f"Roster {last.id}, which was accepted,"):
        plan(db, world, csv(anna="active", ben="active", carla="active"), MORNING - timedelta(hours=1))
    three = csv(anna="active", ben="active", carla="active")
    with pytest.raises(RosterRefusedError, match="has 3 people, the last one had 5. Less than 80% of that"):
        plan(db, world, three, NOW)
    with pytest.raises(RosterRefusedError, match="has 3 active people"):
        plan(db, world, everybody.replace("dora;active", "dora;left").replace("emil;active", "emil;left"), NOW)
    allowed = plan(db, world, three, NOW, allow_shrink="Two branches were sold.")
    assert accept(db, world, allowed).job_id is not None
    audited = world.run(
        "SELECT actor, note FROM withdrawals.audit WHERE action = 'roster.accept' ORDER BY id DESC LIMIT 1"
    )
    assert [tuple(row) for row in audited] == [("cli:ada", "Two branches were sold.")]
    assert_balanced(db)
