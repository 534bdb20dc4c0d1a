"""A backup that was taken while the service worked is restored, and its books are clean (docs/operations/backup.md)."""

import os
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from ops.local.postgres import find_programs
from tests.support.commandline import done, withdrawals
from tests.support.databases import Cluster
from tests.support.incoming import incoming, make_registered, post, results
from tests.support.traffic import traffic
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings, settings
from worker.database import Database
from worker.reports.books import check


@pytest.fixture(autouse=True)
def _programs_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump of another version may be first on PATH, and refuses a newer server."""
    monkeypatch.setenv("PATH", f"{find_programs()}{os.pathsep}{os.environ['PATH']}")


def test_a_backup_under_traffic_is_restored_with_clean_books(db: Database, environment: Settings, world: World) -> None:
    def work() -> None:
        world.submit(db, world.enrolments(3))
        world.event(db, "deactivated", world.one("SELECT min(external_id) FROM lms.learners WHERE active"))
        decide_due(db, environment)

    with traffic(work):
        ended = done("drill")
    assert ended["clean"]
    assert ended["rows"]["jobs"] > 0
    assert ended["totals"]["accepted"] > 0
    assert set(ended["seconds"]) == {"backup", "restore", "migrations", "check"}
    assert world.one("SELECT count(*) FROM pg_database WHERE datname LIKE 'withdrawals_drill_%'") == 0
    assert_balanced(db)


def test_a_backup_with_broken_books_is_found(db: Database, environment: Settings, world: World, tmp_path: Path) -> None:
    """Here outcomes were removed before it was taken; and a file that is no backup is refused with its reason."""
    job = world.submit(db, world.enrolments(2))
    decide_due(db, environment)
    with world.owner.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(f"DELETE FROM withdrawals.outcomes WHERE job_id = {job.id}")
    ran = withdrawals("drill")
    assert ran.code == 1
    assert "NOT clean" in ran.out
    assert "pg_restore failed" in withdrawals("drill", "--dump", _empty(tmp_path)).err
    assert world.one("SELECT count(*) FROM pg_database WHERE datname LIKE 'withdrawals_drill_%'") == 0


def test_after_a_restore_senders_repeat_what_was_lost_and_it_is_done_once(
    db: Database, environment: Settings, world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = world.enrolment("kept"), world.enrolment("lost")
    source = make_registered(db, environment, world.organisation_id)
    sent = [incoming("kept", key="one"), incoming("lost", key="two")]
    post(db, source, sent[0])
    decide_due(db, environment)
    copy = done("drill", "--keep")["database"]
    post(db, source, sent[1])  # after the backup
    decide_due(db, environment)
    assert world.status(lost) == "withdrawn"

    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(database=copy)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    settings.cache_clear()
    with closing(Database(settings())) as restored, closing(Database(settings(), as_owner=True)) as owner:
        then = World.__new__(World)
        then.owner, then.organisation_id = owner, world.organisation_id
        assert then.status(lost) == "in_progress"
        post(restored, source, *sent)
        decide_due(restored, settings())
        assert [then.status(one) for one in (kept, lost)] == ["withdrawn", "withdrawn"]
        assert results(then) == [("accepted", False)] * 2, "the one that the backup had is known"
        assert_balanced(restored)
        # The platform's rows from a later moment than the service's: what was done meanwhile has no job.
        later = then.enrolment("later")
        then.run(
            """UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(), withdrawn_by = 'hr:workday',
            withdrawal_reason = 'user_deactivated' WHERE id = :i""",
            i=later,
        )
        post(restored, source, incoming("later", key="three"))
        decide_due(restored, settings())
        assert [found.rule for found in check(restored).violations] == ["withdrawal-unexplained"]
    cluster.run(f"DROP DATABASE {copy} WITH (FORCE)")


def _empty(folder: Path) -> Path:
    file = folder / "no.dump"
    file.write_bytes(b"")
    return file
