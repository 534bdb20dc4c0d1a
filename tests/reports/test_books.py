"""What the platform does to its own tables is a warning or nothing: it is never called broken."""

from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.reports.books import check


def test_what_the_platform_made_active_again_may_be_withdrawn_again(
    db: Database, world: World, environment: Settings
) -> None:
    """Both withdrawals were right at their time; the newest stands. It is told, because a fault looks the same."""
    enrolment = world.enrolment()
    for _ in range(2):
        world.run(
            """UPDATE lms.enrolments SET status = 'in_progress', withdrawn_at = NULL, withdrawal_reason = NULL,
            withdrawn_by = NULL WHERE id = :i""",
            i=enrolment,
        )
        world.submit(db, [enrolment])
        decide_due(db, environment)
    books = check(db)
    assert books.clean, books
    assert [(one.rule, one.subject) for one in books.warnings] == [
        ("withdrawn-again", f"enrolment {enrolment}: withdrawals 2")
    ]


def test_what_the_platform_does_itself_is_never_called_broken(
    db: Database, world: World, environment: Settings
) -> None:
    """It ends, re-opens, withdraws, moves and deletes enrolments, before this service and after it."""
    before, ended, opened, theirs, moved, gone = [world.enrolment(f"l{number}") for number in range(6)]
    world.run("UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_by = 'platform' WHERE id = :i", i=before)
    world.submit(db, [before, ended, opened, theirs, moved, gone])
    decide_due(db, environment)
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :i", i=ended)
    world.run("UPDATE lms.enrolments SET status = 'no_attempts' WHERE id = :i", i=opened)
    world.run(
        """UPDATE lms.enrolments SET withdrawn_at = now(), withdrawn_by = 'platform', withdrawal_reason = NULL
        WHERE id = :i""",
        i=theirs,
    )
    world.run("UPDATE lms.enrolments SET organisation_id = :o WHERE id = :i", i=moved, o=world.organisation("Other"))
    world.run("DELETE FROM lms.enrolments WHERE id = :i", i=gone)
    books = check(db)
    assert books.clean, books
    assert {one.rule for one in books.warnings} == {"active-again", "withdrawn-elsewhere", "enrolment-moved"}
