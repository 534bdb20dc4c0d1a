"""A full roster is compared with the platform and the events, and withdraws the people who left, once."""

from collections.abc import Callable
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import event

from schemas.catalogue import JobState
from schemas.control import BrakeSetting
from schemas.dead_letters import LetterFilter
from schemas.rosters import RosterPlan, RosterRequest
from tests.support.rosters import MORNING, NOW, accept, csv, enrol, plan
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import decision_receipts, remedies
from worker.dead_letters.runs import preview
from worker.errors import ConflictError, InvalidInputError
from worker.jobs import brake, control
from worker.jobs.files.faults import FileFaultsError
from worker.jobs.show import show
from worker.people import roster_pull, rosters
from worker.people.rosters import RosterRefusedError


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
    with pytest.raises(RosterRefusedError, match="has 3 people, the last one had 5"):
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


def test_a_letter_of_a_roster_stands_and_falls_with_its_own_person(
    db: Database, world: World, environment: Settings
) -> None:
    """Rule 10, also for "a redrive of an old dead letter" and for a cascade: of many people only one has come back."""
    pathway = world.pathway()
    owned = {learner: [enrol(world, learner, pathway_id=pathway)[learner] for _ in "12"] for learner in ("anna", "ben")}
    done = accept(db, world, plan(db, world, csv(anna="left", ben="left", carla="active")))
    decide_due(db, environment)
    assert world.outcomes(done.job_id or 0) == dict.fromkeys((*owned["anna"], *owned["ben"]), "pathway_owned")
    # What is before support already is not asked for again.
    again = plan(db, world, csv(anna="left", ben="left", carla="active"), NOW)
    assert (again.findings, again.plan) == ({"unknown_to_platform": 1}, None)

    world.event(db, "reactivated", "anna")
    letters = {letter.enrolment_id: letter.id for letter in world.letters()}
    seen = preview(db, organisation_id=world.organisation_id, act="redrive", wanted=LetterFilter())
    assert seen["outcomes"] == {"superseded": 2, "pathway_owned": 2}
    for learner, remedy in (("anna", "override"), ("ben", "cascade")):
        remedies.resolve(
            db, organisation_id=world.organisation_id, letter_ids=[letters[owned[learner][0]]], remedy=remedy,
            note="agreed", actor="test:approver", door="cli",
        )  # fmt: skip
    decide_due(db, environment)
    assert [world.status(one) for one in owned["anna"]] == ["in_progress", "in_progress"]
    assert [world.status(one) for one in owned["ben"]] == ["withdrawn", "withdrawn"]
    cascade = world.run(
        "SELECT epoch IS NOT NULL, deactivated_external_id FROM withdrawals.jobs WHERE source = 'support'"
    )
    assert [tuple(row) for row in cascade] == [(True, "ben")]
    assert_balanced(db)


def test_a_roster_finds_what_was_lost_and_overtakes_nothing(db: Database, world: World, environment: Settings) -> None:
    """The brake holds its one job as a whole; what it holds is under way for the next roster and for a source."""
    ids = enrol(world, "anna", "ben", "carla", "dora")
    wanted = BrakeSetting(floor=1, share=0.1, hours=24)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")
    planned = plan(db, world, csv(anna="left", ben="left", carla="active"))
    assert planned.plan is not None
    assert planned.plan.brake
    held = accept(db, world, planned)
    job = show(db, organisation_id=world.organisation_id, job_id=held.job_id or 0)
    assert (job.state, job.accepted) == (JobState.HELD, 3)

    next_one = plan(db, world, csv(anna="left", ben="left", carla="active"), MORNING + timedelta(hours=1))
    assert next_one.findings == {"under_way": 3}
    assert accept(db, world, next_one).job_id is None
    world.event(db, "reactivated", "ben")
    control.release(db, organisation_id=world.organisation_id, job_id=job.id, actor="test:approver")
    decide_due(db, environment)
    assert world.outcomes(job.id) == {ids["anna"]: "withdrawn", ids["ben"]: "superseded", ids["dora"]: "withdrawn"}
    receipt = decision_receipts.explain(db, organisation_id=world.organisation_id, enrolment_id=ids["anna"])
    assert (receipt.decisions[0].request.file_name, receipt.decisions[0].request.line) == ("all.csv", 2)
    assert_balanced(db)


def test_a_roster_is_pulled_from_a_scim_server_page_by_page(db: Database, world: World) -> None:
    """A server that gives fewer users than it has, or something else, is not read as: everybody left."""
    enrol(world, "anna", "ben", "carla")
    users = [{"externalId": "anna", "active": True}, {"externalId": "ben", "active": False}, {"userName": "carla"}]
    asked: list[httpx2.Request] = []

    def serve(request: httpx2.Request, most: int = 2, known: int = 3) -> httpx2.Response:
        asked.append(request)
        assert world.one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL"
        ) == 0, "no transaction waits for a directory"  # fmt: skip
        start = int(request.url.params["startIndex"])
        page = users[start - 1 : min(start - 1 + most, known)]
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": 3, "Resources": page}
        return httpx2.Response(200, json=body, headers={"Content-Type": "application/scim+json"})

    def pulled(handler: Callable[[httpx2.Request], httpx2.Response]) -> RosterPlan:
        people = roster_pull.pull("https://hr.example/scim/v2", "a-token", transport=httpx2.MockTransport(handler))
        wanted = RosterRequest(as_of=NOW)
        return rosters.plan_people(
            db, organisation_id=world.organisation_id, actor="cli:ada", wanted=wanted, people=people
        )

    found = pulled(serve)
    assert (found.kind, found.people, found.active, found.findings) == ("scim", 3, 2, {"inactive": 1})
    assert [request.url.params["startIndex"] for request in asked] == ["1", "3"]
    assert {request.headers["Authorization"] for request in asked} == {"Bearer a-token"}

    def shifted(request: httpx2.Request) -> httpx2.Response:
        """Ben has moved to the second page meanwhile, and nobody has sent Carla."""
        if request.url.params["startIndex"] == "1":
            return serve(request)
        return httpx2.Response(200, json={"totalResults": 3, "Resources": users[1:2]})

    for handler, message in (
        (lambda request: serve(request, known=2), "has 3 users and gave 2: it is truncated"),
        (shifted, "sent 3 users, and only 2 people are among them"),
        (lambda _: httpx2.Response(401, json={"detail": "no"}), "did not answer"),
        (lambda _: httpx2.Response(200, text="<html>"), "did not answer"),
    ):
        with pytest.raises(RosterRefusedError, match=message):
            pulled(handler)


def test_events_do_not_wait_while_a_whole_roster_is_read(db: Database, world: World, environment: Settings) -> None:
    """All events of the organisation need its settings: no statement over the whole roster runs under this lock."""
    enrol(world, "anna", "ben", "carla")
    planned = plan(db, world, csv(anna="active", ben="left", carla="active", hugo="active"))
    is_locked, under_lock = False, list[str]()

    def see(_: object, __: object, statement: str, *rest: object) -> None:
        nonlocal is_locked
        under_lock.extend([statement] if is_locked else [])
        is_locked = is_locked or "INSERT INTO withdrawals.organisation_settings" in statement

    def end(_: object) -> None:
        nonlocal is_locked
        is_locked = False

    event.listen(db.engine, "before_cursor_execute", see)
    event.listen(db.engine, "commit", end)
    try:
        assert accept(db, world, planned).job_id is not None
    finally:
        event.remove(db.engine, "before_cursor_execute", see)
        event.remove(db.engine, "commit", end)
    whole = ("FROM lms.learners l\nLEFT JOIN", "DELETE FROM withdrawals.roster_lines t", "INSERT INTO pg_temp.staged")
    assert under_lock
    assert [one for one in under_lock if any(part in one for part in whole)] == []
    decide_due(db, environment)
    assert_balanced(db)
