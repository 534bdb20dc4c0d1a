"""Reports: one filter for the view and the files, one picture while jobs run, and sums that add up."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from schemas.reports import EnrolmentFilter, OutcomeFilter
from tests.support.sessions import Sessions
from tests.world import World, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError
from worker.jobs.control import cancel
from worker.ledger.report_lists import use_snapshot
from worker.reports.exports import ExportAbandoned, export
from worker.reports.filters import find_series_id
from worker.reports.formats import Format
from worker.reports.lists import list_enrolments
from worker.reports.summary import summarise


def exported(db: Database, world: World, wanted: EnrolmentFilter | OutcomeFilter) -> list[dict[str, str]]:
    sink = io.BytesIO()
    count = export(db, world.organisation_id, wanted, Format.CSV, sink)
    rows = list(csv.DictReader(io.StringIO(sink.getvalue().decode(), newline="")))
    assert len(rows) == count
    return rows


def both(db: Database, world: World, **wanted: Any) -> list[int]:
    """Ids by the view and by the export, which must agree."""
    filter_ = EnrolmentFilter(**wanted)
    rows = exported(db, world, filter_)
    seen = list_enrolments(db, world.organisation_id, filter_, before=None, limit=1000)
    ids = [int(row["enrolment_id"]) for row in rows]
    assert [row.enrolment_id for row in reversed(seen)] == ids
    for row, other in zip(reversed(seen), rows, strict=True):
        assert [row.status, str(row.job_id or "")] == [other["status"], other["job_id"]]
    return ids


def test_the_status_filter_includes_withdrawn_unless_it_is_excluded(
    world: World, db: Database, environment: Settings
) -> None:
    """Rule 8: reports and exports carry a Status filter; the default includes `withdrawn`; one filter for both."""
    active, ended, odd, gone = (
        world.enrolment("a"), world.enrolment("b", "mastered"), world.enrolment("c", "archived"), world.enrolment("d"),
    )  # fmt: skip
    world.submit(db, [gone])
    decide_due(db, environment)
    assert both(db, world) == [active, ended, odd, gone]
    assert both(db, world, exclude_status=["withdrawn"]) == [active, ended, odd]
    assert both(db, world, exclude_status=["withdrawn", "mastered"]) == [active, odd]
    assert both(db, world, status=["withdrawn"]) == [gone]
    assert both(db, world, status=["withdrawn", "archived"]) == [odd, gone]
    assert both(db, world, status=["withdrawn"], exclude_status=["withdrawn"]) == []
    assert both(db, world, status=["no such status"]) == []


def test_enrolments_are_found_by_series_reason_source_and_time(
    world: World, db: Database, environment: Settings
) -> None:
    one, two, other = world.enrolment("a"), world.enrolment("b"), world.enrolment("c")
    world.event(db, "deactivated", "a")
    world.submit(db, [two], reason="learner_declined")
    decide_due(db, environment)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=other)
    assert both(db, world, series_id=series) == [other]
    assert both(db, world, reason="user_deactivated") == [one]
    assert both(db, world, source="bulk") == [two]
    assert both(db, world, source="hr") == [one]
    now = datetime.now(UTC)
    assert both(db, world, withdrawn_from=now - timedelta(hours=1)) == [one, two]
    assert both(db, world, withdrawn_to=now - timedelta(hours=1)) == []
    today = world.one("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert both(db, world, withdrawn_from=today - timedelta(days=1), withdrawn_to=today) == [one, two]
    assert both(db, world, withdrawn_from=today + timedelta(days=1)) == []


def test_a_day_begins_and_ends_in_the_zone_of_the_organisation(world: World, db: Database) -> None:
    world.run("UPDATE lms.organisations SET timezone = 'Pacific/Auckland'")  # UTC+13 in January
    early, late = world.enrolment("a", "withdrawn"), world.enrolment("b", "withdrawn")
    for enrolment, at in ((early, "2026-01-09T11:00:00Z"), (late, "2026-01-10T10:59:59Z")):
        world.run("UPDATE lms.enrolments SET withdrawn_at = :at WHERE id = :id", at=at, id=enrolment)
    day = date(2026, 1, 10)
    assert both(db, world, withdrawn_from=day, withdrawn_to=day) == [early, late]
    assert both(db, world, withdrawn_to=date(2026, 1, 9)) == []
    with pytest.raises(InvalidInputError, match="withdrawn_to"):
        both(db, world, withdrawn_from=day, withdrawn_to=day - timedelta(days=1))
    with pytest.raises(InvalidInputError, match="withdrawn_from"):
        both(db, world, withdrawn_from=date.min)
    with pytest.raises(InvalidInputError, match="withdrawn_to"):
        both(db, world, withdrawn_to=date.max)


def test_columns_begin_as_agreed_and_name_the_job_that_withdrew(
    world: World, db: Database, environment: Settings
) -> None:
    enrolment, by_the_platform = world.enrolment("=anna"), world.enrolment("ben", "withdrawn")
    job = world.submit(db, [enrolment])
    again = world.submit(db, [enrolment, by_the_platform])
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET due_at = 'infinity' WHERE id = :id", id=enrolment)
    first, second = exported(db, world, EnrolmentFilter())
    assert list(first)[:6] == [
        "enrolment_id", "learner_external_id", "series_code", "series_title", "pathway_title", "status",
    ]  # fmt: skip
    assert (first["learner_external_id"], first["status"], first["source"]) == ("'=anna", "withdrawn", "bulk")
    assert (first["job_id"], first["withdrawn_by"], first["due_at"]) == (str(job.id), "test:admin", "")
    assert first["withdrawn_at"].endswith("Z")
    assert (second["job_id"], second["source"]) == ("", ""), f"not job {again.id}: the platform did"


def test_another_organisation_is_in_no_report(world: World, db: Database, environment: Settings) -> None:
    other = world.organisation("Other")
    theirs, ours = world.enrolment("x", organisation_id=other), world.enrolment("a")
    world.submit(db, [theirs, ours])
    decide_due(db, environment)
    assert both(db, world) == [ours]
    rows = exported(db, world, OutcomeFilter())
    assert [(int(row["enrolment_id"]), row["outcome"], row["learner_external_id"]) for row in rows] == [
        (theirs, "not_found", ""), (ours, "withdrawn", "a"),
    ]  # fmt: skip
    series = world.one("SELECT code FROM lms.series WHERE organisation_id = :o", o=other)
    with pytest.raises(NotFoundError, match="series"):
        find_series_id(db, world.organisation_id, series)


def test_outcomes_are_found_by_job_outcome_source_status_and_time(
    world: World, db: Database, environment: Settings
) -> None:
    done, ended, missing = world.enrolment("a"), world.enrolment("b", "mastered"), 999_999
    first = world.submit(db, [done, ended, missing])
    decide_due(db, environment)
    cancelled = world.submit(db, [ended])
    cancel(db, organisation_id=world.organisation_id, job_id=cancelled.id, actor="test:admin")

    def ids(**wanted: Any) -> list[int]:
        return [int(row["enrolment_id"]) for row in exported(db, world, OutcomeFilter(**wanted))]

    assert ids() == [done, ended, missing, ended]
    assert ids(job_id=first.id) == [done, ended, missing]
    assert ids(job_id=cancelled.id, outcome=["cancelled"]) == [ended]
    assert ids(outcome=["withdrawn", "not_found"]) == [done, missing]
    assert ids(status=["withdrawn"]) == [done]
    assert ids(exclude_status=["withdrawn"], job_id=first.id) == [ended, missing]
    assert ids(source="hr") == ids(reason="enrolment_error") == []
    assert len(ids(decided_from=datetime.now(UTC) - timedelta(hours=1))) == 4
    assert ids(decided_to=datetime.now(UTC) - timedelta(hours=1)) == []


def test_an_export_shows_one_moment_while_a_job_runs(world: World, db: Database, environment: Settings) -> None:
    """The job commits after the export has read its first rows, and before the last."""
    world.enrolments(5000)
    last = world.enrolment("zoe")
    asked: list[bool] = []

    def commits_meanwhile() -> bool:
        if not asked:
            world.submit(db, [last])
            decide_due(db, environment)
            assert world.status(last) == "withdrawn"
        asked.append(True)
        return False

    sink = io.BytesIO()
    export(db, world.organisation_id, EnrolmentFilter(), Format.CSV, sink, abandoned=commits_meanwhile)
    assert len(asked) > 1, "the last row is in a later batch than the first"
    rows = list(csv.DictReader(io.StringIO(sink.getvalue().decode(), newline="")))
    assert len(rows) == 5001
    assert {row["status"] for row in rows} == {"in_progress"}
    assert both(db, world, status=["withdrawn"]) == [last]


def test_an_export_outlives_the_timeouts_of_other_statements(
    world: World, sessions: Sessions, environment: Settings
) -> None:
    """With the lease of production; the connections of other tests have much time for everything."""
    world.enrolments(10)
    show = "SHOW idle_in_transaction_session_timeout"
    with sessions.database(environment) as db:
        with db.begin() as connection:
            usual = connection.exec_driver_sql(show).scalar()
            use_snapshot(connection)
            changed = connection.exec_driver_sql(show).scalar()
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "repeatable read"
            assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
        assert (usual, changed) == ("15s", "2min")
        with db.begin() as connection:
            assert connection.exec_driver_sql(show).scalar() == usual


@pytest.mark.parametrize("how", ["abandoned", "a full disk"])
def test_an_export_that_is_given_up_frees_its_connection(world: World, db: Database, how: str) -> None:
    world.enrolments(5000)

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    sink = Full() if how == "a full disk" else io.BytesIO()
    given_up: Callable[[], bool] = lambda: how == "abandoned"  # noqa: E731
    with pytest.raises(OSError if how == "a full disk" else ExportAbandoned):
        export(db, world.organisation_id, EnrolmentFilter(), Format.CSV, sink, abandoned=given_up)
    left = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
    eventually(lambda: not world.run(left), what="no transaction is left open")
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(exported(db, world, EnrolmentFilter())) == 5000


def test_the_summary_adds_up(world: World, db: Database, environment: Settings) -> None:
    pathway = world.pathway()
    ids = [world.enrolment(f"l{n}") for n in range(4)]
    owned, ended = world.enrolment("p", pathway_id=pathway), world.enrolment("m", "mastered")
    world.submit(db, [*ids[:3], owned, ended, 999_999])
    world.submit(db, [ids[0], ids[3]], reason="learner_declined")
    decide_due(db, environment)
    world.run("UPDATE withdrawals.dead_letters SET opened_at = now() - interval '2 days' WHERE code = 'not_found'")
    found = summarise(db, world.organisation_id, EnrolmentFilter())
    decided = "SELECT date_trunc('week', max(decided_at) AT TIME ZONE 'UTC')::date FROM withdrawals.outcomes"
    monday = world.one(decided)
    assert [(row.week, row.reason, row.count) for row in found.withdrawals] == [
        (monday, "learner_declined", 1), (monday, "not_required", 3),
    ]  # fmt: skip
    assert {row.cause: row.count for row in found.refused} == {
        "enrolment_ended": 1, "not_found": 1, "pathway_owned": 1,
    }  # fmt: skip
    assert [(row.age, row.code, row.count) for row in found.open_letters] == [
        ("under_1_hour", "pathway_owned", 1), ("under_1_week", "not_found", 1),
    ]  # fmt: skip
    took = found.seconds_to_withdrawal
    assert took.count == 4
    assert took.p50 is not None and took.p95 is not None and took.p99 is not None
    assert 0 <= took.p50 <= took.p95 <= took.p99
    narrow = summarise(db, world.organisation_id, EnrolmentFilter(reason="learner_declined"))
    assert sum(row.count for row in narrow.withdrawals) == 1
    active = summarise(db, world.organisation_id, EnrolmentFilter(exclude_status=["withdrawn"]))
    assert (active.withdrawals, len(active.refused)) == ([], 3)
    before = summarise(db, world.organisation_id, EnrolmentFilter(withdrawn_to=date(2020, 1, 1)))
    assert (before.withdrawals, before.refused, before.seconds_to_withdrawal.p50) == ([], [], None)


def test_each_withdrawal_stands_in_one_band_of_time(world: World, db: Database, environment: Settings) -> None:
    took = (5, 10, 3599, 90_000)  # seconds
    jobs = [world.submit(db, [world.enrolment("a")]) for _ in took]
    decide_due(db, environment)
    for job, seconds in zip(jobs, took, strict=True):
        world.run(
            """UPDATE withdrawals.jobs j SET created_at = o.decided_at - :s * interval '1 s',
            effective_at = o.decided_at - :s * interval '1 s' FROM withdrawals.outcomes o
            WHERE o.job_id = j.id AND j.id = :id""",
            s=seconds,
            id=job.id,
        )
    found = summarise(db, world.organisation_id, EnrolmentFilter()).seconds_to_withdrawal
    assert [(row.band, row.count) for row in found.bands] == [
        ("under_10_seconds", 1), ("under_1_minute", 1), ("under_10_minutes", 0), ("under_1_hour", 1),
        ("under_1_day", 0), ("over_1_day", 1),
    ]  # fmt: skip


def test_waiting_for_a_time_that_lies_ahead_is_not_time_taken(
    world: World, db: Database, environment: Settings
) -> None:
    world.submit(db, [world.enrolment("a")])
    decide_due(db, environment)
    world.run("UPDATE withdrawals.jobs SET created_at = now() - interval '30 days'")
    took = summarise(db, world.organisation_id, EnrolmentFilter()).seconds_to_withdrawal
    assert took.p99 is not None and took.p99 < 60
