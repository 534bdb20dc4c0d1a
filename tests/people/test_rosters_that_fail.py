"""A roster that cannot be applied keeps no other one waiting, and a person sees it and goes on with it."""

import threading
from datetime import timedelta

import psycopg
import pytest
import structlog
from sqlalchemy import Connection, text

from tests.support.racing import job_state
from tests.support.rosters import MORNING, NOW, confirm, csv, enrol, plan
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError
from worker.ledger import roster_steps as steps
from worker.people import roster_steps, rosters
from worker.queue.broker import make_broker
from worker.queue.relay import Relay
from worker.reports.books import check


def test_a_roster_that_fails_holds_up_no_other_and_is_shown(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two organisations fails at its last step, and goes on from there once the cause is mended."""
    first, second = world.organisation_id, world.organisation("Beta")
    ids = {org: enrol(world, "anna", "ben", organisation_id=org) for org in (first, second)}
    planned = {org: plan(db, world, csv(anna="left", ben="active"), MORNING, org) for org in (first, second)}
    for org in (first, second):
        confirm(db, world, planned[org], org)
    errors: list[Exception] = [psycopg.errors.LockNotAvailable("taken")] * 6 + [ValueError("no anna@example.org")] * 9
    stage = steps.stage_left

    def fail(connection: object, organisation_id: int, roster_id: int) -> int:
        if organisation_id == first and errors:
            raise errors.pop(0)
        return stage(connection, organisation_id, roster_id)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "stage_left", fail)

    def apply() -> tuple[str, str | None]:
        world.run("UPDATE withdrawals.rosters SET run_after = now() WHERE state = 'accepted'")
        roster_steps.apply_accepted(db, within=60)
        roster_steps.apply_accepted(db, within=60)  # it waits before it is tried again
        found = rosters.show(db, organisation_id=first, roster_id=planned[first].id)
        return found.state, found.failure

    with structlog.testing.capture_logs() as logs:
        assert apply() == ("accepted", "LockNotAvailable: taken")
        assert rosters.show(db, organisation_id=second, roster_id=planned[second].id).job_id is not None
        for _ in range(5):
            state = apply()
        assert state == ("accepted", "LockNotAvailable: taken"), "what passes by itself is tried for longer"
        assert apply() == apply() == ("failed", "ValueError: no …")
    last = [one for one in logs if one["event"] == "roster.failed"]
    assert [(one["roster_id"], one["attempts"], one["log_level"]) for one in last] == [(planned[first].id, 7, "error")]
    decide_due(db, environment)
    assert [world.status(ids[org]["anna"]) for org in (first, second)] == ["in_progress", "withdrawn"]
    assert [(one.rule, one.subject) for one in check(db).warnings] == [
        ("roster-failed", f"roster {planned[first].id} of organisation {first}: ValueError: no …")
    ]

    errors.clear()
    confirm(db, world, planned[first], first)
    assert apply() == ("done", None)
    decide_due(db, environment)
    assert world.status(ids[first]["anna"]) == "withdrawn"
    assert not check(db).warnings
    assert_balanced(db)


def test_whom_a_failed_roster_has_left_a_newer_one_finds(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enrol(world, "anna", "ben")
    failed = plan(db, world, csv(anna="left", ben="active"))
    confirm(db, world, failed)
    with monkeypatch.context() as patched:
        patched.setattr(roster_steps, "_MOST_ATTEMPTS", 1)
        patched.setattr(steps, "stage_left", lambda *_: 1 // 0)
        roster_steps.apply_accepted(db, within=60)
    assert (world.active("anna"), world.status(ids["anna"])) == (False, "in_progress")

    newer = plan(db, world, csv(anna="left", ben="active"), MORNING + timedelta(hours=1))
    assert newer.findings == {"inactive": 1}
    confirm(db, world, newer)
    roster_steps.apply_accepted(db, within=60)
    decide_due(db, environment)
    assert world.status(ids["anna"]) == "withdrawn"
    assert not check(db).warnings, "the newer one has found whom the failed one has left"
    with pytest.raises(ConflictError, match=f"Roster {newer.id}, which was accepted"):
        confirm(db, world, failed)
    world.run("UPDATE withdrawals.rosters SET planned_at = :at", at=NOW - timedelta(days=2))
    with pytest.raises(ConflictError, match="more than a day ago"):
        confirm(db, world, failed)
    assert_balanced(db)


def test_the_relay_goes_on_with_its_rounds_while_a_large_roster_is_applied(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements over all of its people take minutes: a leader that stood still for so long would be replaced."""
    ids = enrol(world, "anna", "ben")
    planned = plan(db, world, csv(anna="left", ben="active"))
    confirm(db, world, planned)
    begun, may_end, stage = threading.Event(), threading.Event(), steps.stage_left
    limits: list[str] = []

    def take_long(connection: Connection, organisation_id: int, roster_id: int) -> int:
        begun.set()
        assert may_end.wait(PATIENCE)
        found = stage(connection, organisation_id, roster_id)
        limits.append(str(connection.scalar(text("SHOW statement_timeout"))))
        return found

    monkeypatch.setattr(steps, "stage_left", take_long)
    relay = Relay(db, make_broker(environment.broker_url.get_secret_value()), environment)
    event = world.event(db, "deactivated", "ben", effective_at=NOW + timedelta(days=1))
    world.run("UPDATE withdrawals.jobs SET effective_at = now()")
    relay.sweep()
    assert begun.wait(PATIENCE)
    relay.sweep()
    assert job_state(world, event.job_id or 0) == "queued", "other steps have had their turn"
    assert rosters.show(db, organisation_id=world.organisation_id, roster_id=planned.id).state == "accepted"
    may_end.set()
    eventually(lambda: rosters.show(db, organisation_id=world.organisation_id, roster_id=planned.id).state == "done")
    relay.steps.rosters.stop()
    assert limits == ["15min"]
    decide_due(db, environment)
    assert world.status(ids["anna"]) == "withdrawn"
    assert_balanced(db)
