"""Migrations beside a running service: who writes goes on, who died is repeated, and the printed SQL does the same."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from sqlalchemy import Connection, text

from ops import migrate as migrating
from ops.local.postgres import find_programs
from ops.migrate import MIGRATIONS, _config, head, migrate, plan, script
from tests.conftest import ROLE
from tests.schema.test_schema import empty, everything
from tests.support.commandline import refused, withdrawals
from tests.support.databases import Cluster
from tests.world import World, eventually
from worker.config import Settings

__all__ = ["empty"]
VERSIONS = MIGRATIONS / "versions"
PREVIOUS = "0013"
"""The revision of release 0.1.0."""
INDEX = "outcomes_by_time"
_WAITS = text("""SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND query LIKE :query""")
_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('withdrawals.' || :name)")
ROW = """INSERT INTO withdrawals.outcomes (organisation_id, job_id, chunk_id, enrolment_id, outcome)
    VALUES (1, 1, 1, {id}, 'withdrawn')"""


@pytest.fixture
def new(cluster: Cluster, template: str) -> sqlalchemy.Engine:
    """A database that this release has made from nothing."""
    url = sqlalchemy.make_url(cluster.url).set(drivername="postgresql+psycopg", database=template)
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)


def at(engine: sqlalchemy.Engine, revision: str) -> None:
    """Make the schemas as they were at a revision."""
    with engine.begin() as connection:
        connection.exec_driver_sql((MIGRATIONS / "lms.sql").read_text(encoding="utf-8"))
        connection.exec_driver_sql("CREATE SCHEMA withdrawals")
        command.upgrade(_config(connection=connection), revision)


@contextmanager
def background(engine: sqlalchemy.Engine) -> Iterator[list[BaseException | str]]:
    """`migrate` in a thread; what it returned or raised stands in the list after the block."""
    ended: list[BaseException | str] = []

    def run() -> None:
        try:
            ended.append(migrate(engine, role=ROLE))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield ended
    thread.join()


def test_a_writer_goes_on_while_an_index_is_built_and_one_that_died_is_built_again(
    empty: sqlalchemy.Engine, new: sqlalchemy.Engine, environment: Settings
) -> None:
    at(empty, "0021")
    with empty.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
                request_hash, state, accepted, effective_at) VALUES (1, 'not_required', 'bulk', 'x', 'cli', 'k', '',
                'scheduled', 9, now());
            INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
                VALUES (1, 1, 0, 1, '{1,2,3}', 3, 'ready')""")
        connection.exec_driver_sql(ROW.format(id=1))
    with empty.connect() as old, empty.connect().execution_options(isolation_level="AUTOCOMMIT") as service:
        old.exec_driver_sql(ROW.format(id=2))  # a transaction that the build has to wait for
        service.exec_driver_sql("SET lock_timeout = '10s'")
        with background(empty) as first:
            building = eventually(lambda: _waiting(service, "CREATE INDEX CONCURRENTLY"), what="an index is built")
            service.exec_driver_sql(ROW.format(id=3))
            ran: list[str] = []
            sqlalchemy.event.listen(empty, "before_cursor_execute", lambda *found: ran.append(found[2]))
            with background(empty) as second:
                eventually(lambda: sum("try_advisory" in it for it in ran) > 1, what="a second one asks again")
                service.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": building})
                eventually(lambda: _waiting(service, "DROP INDEX CONCURRENTLY"), what="the second one has its turn")
                assert service.scalar(_VALID, {"name": INDEX}) is False
                old.commit()
        assert isinstance(first[0], sqlalchemy.exc.OperationalError)
        assert second == [head()]
        assert service.scalar(_VALID, {"name": INDEX}) is True
    assert everything(empty, "withdrawals") == everything(new, "withdrawals")


def test_the_sql_that_is_printed_for_an_upgrade_does_what_the_upgrade_does(
    empty: sqlalchemy.Engine, new: sqlalchemy.Engine, tmp_path: Path, environment: Settings
) -> None:
    at(empty, PREVIOUS)
    with empty.connect() as connection:
        steps = plan(connection)
    alone = {step.revision for step in steps if step.online}
    assert {"0014b", "0015b", "0021b", "0022"} <= alone
    printed = script(steps, found=PREVIOUS, role=ROLE, grant=True)
    program = find_programs() / "psql"
    url = empty.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ran = subprocess.run(
        [program, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", url],
        input=printed, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert everything(empty, "withdrawals") == everything(new, "withdrawals")
    assert migrate(empty, role=ROLE) == head(), "nothing is left to do"


def test_rights_come_with_the_tables_and_not_after_the_last_migration(
    empty: sqlalchemy.Engine, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger of the new release may use its tables for a process of the previous one."""
    at(empty, "0024")

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(migrating, "_complete", dies)
    with pytest.raises(KeyboardInterrupt):
        migrate(empty, role=ROLE)
    with empty.connect() as connection:
        asked = text("SELECT has_table_privilege(:role, 'withdrawals.uploads', 'INSERT')")
        assert connection.scalar(asked, {"role": ROLE}) is True


def test_a_release_works_on_the_schema_of_the_next_one_and_does_not_migrate_it(
    world: World, environment: Settings
) -> None:
    world.run("UPDATE withdrawals.schema_version SET version_num = '9999'")
    assert withdrawals("jobs", "list").code == 0
    found = {item["what"]: item["level"] for item in withdrawals("doctor", "--json").document["items"]}
    assert found["schema"] == "warn"
    for words in (["migrate"], ["migrate", "--plan"], ["migrate", "--sql"]):
        assert "of a newer release" in refused(*words)
    world.run("UPDATE withdrawals.schema_version SET version_num = '0022'")
    assert "Run `withdrawals migrate`" in refused("jobs", "list")


def test_migrations_are_linted() -> None:
    """By squawk; `ops/migrations/squawk.toml` says which of its rules do not hold here, and why."""
    files = sorted(VERSIONS.glob("*.sql"))
    online = [file for file in files if "online = True" in file.with_suffix(".py").read_text(encoding="utf-8")]
    for options, some in ((["--assume-in-transaction"], set(files) - set(online)), ([], online)):
        ran = subprocess.run(
            [_squawk(), "--config", MIGRATIONS / "squawk.toml", *options, *sorted(some)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout


def _waiting(connection: Connection, statement: str) -> int | None:
    """The process that waits for others to do such a thing with the index."""
    found: int | None = connection.scalar(_WAITS, {"query": f"{statement}%{INDEX}%"})
    return found


def _squawk() -> Path:

    return Path(sys.executable).with_name("squawk")
