"""A world that has everything is clean; and the check in slices, of one job, and since a time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from worker.database import Database
from worker.ledger.books.rule import Violation
from worker.reports.books import check


def test_a_world_that_has_everything_is_clean_and_without_a_warning(db: Database) -> None:
    books = check(db)
    assert books.clean, books
    assert not books.warnings


def test_slices_of_any_size_say_the_same(db: Database, owner: Database) -> None:
    _corrupt(owner, "DELETE FROM withdrawals.outcomes WHERE job_id IN (1, 7)", "DELETE FROM withdrawals.run_letters")
    whole, cut = check(db), check(db, rows=3)
    assert not whole.clean
    assert cut.totals == whole.totals
    assert _named(cut.violations) == _named(whole.violations)
    assert _named(cut.warnings) == _named(whole.warnings)


def test_the_check_of_one_job_looks_at_that_job_alone(db: Database, owner: Database) -> None:
    _corrupt(owner, "DELETE FROM withdrawals.outcomes WHERE job_id = 1")
    assert not check(db, job_id=1).clean
    assert check(db, job_id=1).totals["jobs"] == 1
    other = check(db, job_id=3)
    assert other.clean, other
    assert not other.warnings


def test_the_check_since_a_time_looks_at_what_was_written_since(db: Database, owner: Database) -> None:
    _corrupt(
        owner,
        *(
            f"UPDATE {table} SET {time} = {time} - interval '9 days'"
            for table, times in {
                "withdrawals.jobs": ("created_at", "finished_at"),
                "withdrawals.chunks": ("created_at", "closed_at"),
                "withdrawals.outcomes": ("decided_at",),
                "lms.enrolments": ("withdrawn_at",),
            }.items()
            for time in times
        ),
        "DELETE FROM withdrawals.outcomes WHERE job_id = 1",
    )
    now = datetime.now(UTC)
    assert not check(db, since=now - timedelta(days=10)).clean
    recent = check(db, since=now - timedelta(days=1))
    assert recent.clean, recent
    _corrupt(owner, "UPDATE withdrawals.chunks SET size = 9 WHERE state = 'waiting'")
    assert not check(db, since=now - timedelta(days=1)).clean


def test_no_more_rows_are_named_for_a_rule_than_asked(db: Database, owner: Database) -> None:
    _corrupt(owner, "UPDATE withdrawals.outcomes SET organisation_id = 999")
    for rows in (3, 200_000):
        found = [one for one in check(db, most=2, rows=rows).violations if one.rule == "outcome-organisation"]
        assert len(found) == 2


def _corrupt(owner: Database, *statements: str) -> None:
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("ALTER TABLE withdrawals.chunks DROP CONSTRAINT IF EXISTS size_is_counted"))
        for statement in statements:
            connection.execute(text(statement))


def _named(found: Sequence[Violation]) -> set[tuple[str, str]]:
    return {(one.rule, one.subject) for one in found}
