"""Scheduled reports: made once whatever was missed or died, kept for a while, and only for whom may have them."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.catalogue import Role
from schemas.people import ErasureRequest
from schemas.report_schedules import Covers, Every, Report, ScheduleRequest
from tests.world import World, decide_due, eventually
from worker.access import tokens
from worker.access.persons import Actor, member_actor
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, NotFoundError
from worker.ledger import members, report_files
from worker.ledger.report_files import FileRecord
from worker.ledger.report_schedules import ScheduleRecord
from worker.notifications.scan import NoticeScan
from worker.people import erasure
from worker.queue.housekeeping import Housekeeping
from worker.queue.report_maker import ReportMaker
from worker.reports import exports, scheduled_files, schedules

ADA = Actor("cli:ada")


def schedule(db: Database, world: World, who: Actor = ADA, **wanted: Any) -> ScheduleRecord:
    request = ScheduleRequest.model_validate({"report": Report.ENROLMENTS, "every": Every.DAILY, **wanted})
    return schedules.create(db, organisation_id=world.organisation_id, wanted=request, who=who)


def days_go_by(world: World, days: int) -> None:
    """As if so many days had passed since the schedules were due next."""
    world.run("UPDATE withdrawals.report_schedules SET next_at = now() - make_interval(days => :days)", days=days)


def files(db: Database, world: World) -> list[FileRecord]:
    with db.begin() as connection:
        return report_files.list_files(connection, world.organisation_id, before=None, limit=100)


def content(db: Database, world: World, file: FileRecord) -> str:
    sink = io.BytesIO()
    scheduled_files.copy_content(db, organisation_id=world.organisation_id, file_id=file.id, sink=sink)
    return sink.getvalue().decode()


def test_missed_runs_are_made_once_by_two_relays_at_once(world: World, db: Database, environment: Settings) -> None:
    ids = world.enrolments(4)
    world.submit(db, ids[:2])
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET withdrawn_at = now() - interval '1 day' WHERE id = :id", id=ids[0])
    before = datetime.now(UTC)
    made = schedule(db, world, names=True)
    assert made.next_at is not None
    assert before < made.next_at <= datetime.now(UTC) + timedelta(days=1)
    days_go_by(world, 5)
    start = threading.Barrier(2)

    def relay(_: int) -> None:
        start.wait()
        schedules.plan_due(db)
        scheduled_files.make_due(db, environment)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(relay, range(2)))
    (file,) = files(db, world)
    yesterday = file.due_at.date() - timedelta(days=1)
    assert (file.state, file.attempts, file.first_day, file.last_day) == ("ready", 1, yesterday, yesterday)
    header, *rows = content(db, world, file).splitlines()
    assert header.endswith("job_id,learner_name,learner_email")
    assert len(rows) == file.row_count
    assert file.row_count in (0, 1), "what was withdrawn on that day, whatever the time of the day is now"
    again = schedules.show(db, organisation_id=world.organisation_id, schedule_id=made.id)
    assert again.next_at is not None
    assert again.next_at > datetime.now(UTC)
    schedules.plan_due(db)
    assert len(files(db, world)) == 1


def test_the_relay_makes_and_forgets_files(world: World, db: Database, environment: Settings) -> None:
    world.enrolments(2)
    made = schedule(db, world, covers=Covers.ALL, every=Every.MONTHLY)
    maker = ReportMaker(db, environment)
    days_go_by(world, 0)
    maker.step()
    eventually(maker._background.is_free)
    maker.stop()
    (file,) = files(db, world)
    assert (file.state, file.row_count, file.first_day) == ("ready", 2, None)
    schedules.pause(db, organisation_id=world.organisation_id, schedule_id=made.id, who=ADA)
    days_go_by(world, 40)
    assert schedules.plan_due(db) == 0, "nothing is made while it is paused"
    world.run("UPDATE withdrawals.report_files SET ended_at = now() - interval '31 days'")
    Housekeeping(db, environment, NoticeScan(db, environment)).forget()
    assert files(db, world) == []
    assert world.one("SELECT count(*) FROM withdrawals.report_parts") == 0


@pytest.mark.parametrize("change", ["revoked", "lower role", "gone for long"])
def test_a_schedule_ends_with_the_right_to_it(world: World, db: Database, environment: Settings, change: str) -> None:
    org = world.organisation_id
    world.enrolments(1)

    def sign_in(role: Role) -> int:
        with db.begin() as connection:
            return members.record_sign_in(
                connection, org, issuer="https://idp.example", subject="ada", name="Ada", email=None, role=role
            )

    if change == "revoked":
        token = tokens.create(db, organisation_id=org, name="ada", role="operator", actor="cli:root").token
        who = Actor("token:ada", "cli:root")
    else:
        who = Actor(member_actor("Ada", sign_in(Role.OPERATOR)))
    made = schedule(db, world, who, covers=Covers.ALL)
    schedule(db, world, covers=Covers.ALL)  # of somebody with a shell
    days_go_by(world, 1)
    assert schedules.plan_due(db) == 2
    if change == "revoked":
        tokens.revoke(db, organisation_id=org, token_id=token.id, actor="cli:root")
    elif change == "lower role":
        sign_in(Role.VIEWER)
    else:
        world.run("UPDATE withdrawals.members SET signed_in_at = now() - interval '91 days'")
    scheduled_files.make_due(db, environment)
    assert {file.schedule_id: file.state for file in files(db, world)} == {made.id: "failed", made.id + 1: "ready"}
    ended = schedules.show(db, organisation_id=org, schedule_id=made.id)
    assert (ended.ended_by, ended.next_at) == ("relay", None)
    assert "may not" in (ended.ended_because or "")
    with pytest.raises(ConflictError):
        schedules.make_now(db, organisation_id=org, schedule_id=made.id, who=ADA)


def test_a_file_that_fails_is_tried_again_and_then_seen_as_failed(
    world: World, db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enrolments(1)
    schedule(db, world, covers=Covers.ALL)
    days_go_by(world, 1)
    schedules.plan_due(db)

    def fail(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exports, "export", fail)
        for attempt in range(1, scheduled_files.ATTEMPTS + 1):
            assert scheduled_files.make_due(db, environment) == 1
            (file,) = files(db, world)
            assert file.attempts == attempt
            assert "OSError" in (file.last_error or "")
            assert scheduled_files.make_due(db, environment) == 0, "the next attempt waits"
            world.run("UPDATE withdrawals.report_files SET run_after = now()")
    assert file.state == "failed"
    assert scheduled_files.make_due(db, environment) == 0


def test_what_a_dead_process_had_claimed_is_made_by_another(world: World, db: Database, environment: Settings) -> None:
    """And what the first still does afterwards is not kept."""
    world.enrolments(1)
    schedule(db, world, covers=Covers.ALL)
    days_go_by(world, 1)
    schedules.plan_due(db)
    with db.begin() as connection:
        first = report_files.claim(connection, lease=timedelta(minutes=10))
    assert first is not None
    assert scheduled_files.make_due(db, environment) == 0
    world.run("UPDATE withdrawals.report_files SET lease_until = now() - interval '1 s'")
    assert scheduled_files.make_due(db, environment) == 1
    with db.begin() as connection:
        assert not report_files.lock_claimed(connection, first)
        assert not report_files.renew(connection, first, lease=timedelta(minutes=10))
    (file,) = files(db, world)
    assert (file.state, file.attempts) == ("ready", 2)


def test_a_file_that_ends_its_process_each_time_is_given_up(world: World, db: Database, environment: Settings) -> None:
    """As one that needs more memory than there is would end the leading relay again and again."""
    world.enrolments(1)
    schedule(db, world, covers=Covers.ALL)
    days_go_by(world, 1)
    schedules.plan_due(db)
    for _ in range(scheduled_files.ATTEMPTS):
        with db.begin() as connection:
            assert report_files.claim(connection, lease=timedelta()) is not None
    assert scheduled_files.make_due(db, environment) == 1
    (file,) = files(db, world)
    assert (file.state, file.last_error) == ("failed", "None of 5 attempts came to its end.")
    assert scheduled_files.make_due(db, environment) == 0


def test_an_erasure_leaves_no_file_with_the_person(
    world: World, db: Database, owner: Database, environment: Settings
) -> None:
    org = world.organisation_id
    world.enrolment("anna", "mastered")
    world.run("UPDATE lms.learners SET active = false")
    made = schedule(db, world, covers=Covers.ALL)
    schedules.make_now(db, organisation_id=org, schedule_id=made.id, who=ADA)
    scheduled_files.make_due(db, environment)
    (file,) = files(db, world)
    assert "anna" in content(db, world, file)
    schedules.make_now(db, organisation_id=org, schedule_id=made.id, who=ADA)
    with db.begin() as connection:
        reading = report_files.claim(connection, lease=timedelta(minutes=10))
    assert reading is not None
    request = ErasureRequest.model_validate({"external_id": "anna", "note": "asked by letter"})
    erasure.erase(owner, organisation_id=org, request=request, actor="test:owner")
    with pytest.raises(NotFoundError):
        content(db, world, file)
    with db.begin() as connection:
        assert not report_files.lock_claimed(connection, reading), "it had read what was before"
    assert [one.state for one in files(db, world)] == ["due"]


@pytest.mark.parametrize(
    ("now", "every", "zone", "following", "last"),
    [
        ("2026-03-28T12:00Z", "daily", "Europe/Berlin", "2026-03-29T04:00Z", "2026-03-28T05:00Z"),
        ("2026-10-25T04:59Z", "daily", "Europe/Berlin", "2026-10-25T05:00Z", "2026-10-24T04:00Z"),
        ("2026-11-23T06:00Z", "weekly", "UTC", "2026-11-30T06:00Z", "2026-11-23T06:00Z"),
        ("2026-12-31T23:00Z", "monthly", "Pacific/Kiritimati", "2027-01-31T16:00Z", "2026-12-31T16:00Z"),
        ("2026-12-15T00:00Z", "monthly", "no/such", "2027-01-01T06:00Z", "2026-12-01T06:00Z"),
    ],
)
def test_times_are_those_of_the_time_zone(now: str, every: str, zone: str, following: str, last: str) -> None:
    at = datetime.fromisoformat(now)
    assert schedules.next_time(at, every, 6, zone) == datetime.fromisoformat(following)
    assert schedules.last_time(at, every, 6, zone) == datetime.fromisoformat(last)
