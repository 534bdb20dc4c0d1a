"""The schema: made by one command, any number of times; and wrong states that no code can write."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from ops import migrate as migrating
from ops.migrate import MIGRATIONS, head, migrate
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database, driver

EVERYTHING = """
SELECT 'column', table_schema, table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = ANY(:schemas)
UNION ALL SELECT 'index', schemaname, tablename, indexname, indexdef, '', '' FROM pg_indexes
    WHERE schemaname = ANY(:schemas)
UNION ALL SELECT 'constraint', n.nspname, c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid), '', ''
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = ANY(:schemas)
UNION ALL SELECT 'trigger', n.nspname, r.relname, t.tgname, pg_get_triggerdef(t.oid), '', ''
    FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname = ANY(:schemas) AND NOT t.tgisinternal
UNION ALL SELECT 'rights', table_schema, table_name, grantee, privilege_type, is_grantable, ''
    FROM information_schema.table_privileges WHERE table_schema = ANY(:schemas)
ORDER BY 1, 2, 3, 4, 5, 6, 7
"""


def test_the_revision_that_the_code_needs_is_the_newest_of_alembics_chain() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert head() == ScriptDirectory.from_config(config).get_current_head()


@pytest.fixture
def empty(environment: Settings) -> Iterator[sqlalchemy.Engine]:
    """A database in which nobody has made anything yet."""
    url = sqlalchemy.make_url(environment.database_url.get_secret_value()).set(drivername="postgresql+psycopg")
    server = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    name = f"empty_{uuid4().hex[:8]}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = sqlalchemy.create_engine(url.set(database=name), poolclass=sqlalchemy.NullPool)
    yield engine
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def everything(engine: sqlalchemy.Engine, *schemas: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(EVERYTHING), {"schemas": list(schemas)})]


def test_a_second_migration_changes_nothing(empty: sqlalchemy.Engine, environment: Settings) -> None:
    assert migrate(empty, role=environment.database_role) == head()
    first = everything(empty, "lms", "withdrawals")
    assert {row[0] for row in first} == {"column", "index", "constraint", "trigger", "rights"}
    assert migrate(empty, role=environment.database_role) == head()
    assert everything(empty, "lms", "withdrawals") == first


def test_two_processes_that_migrate_at_once_are_both_right(
    empty: sqlalchemy.Engine, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes in the middle of the first; indexes are built while it waits."""
    monkeypatch.setenv("DATABASE_URL", empty.url.set(drivername="postgresql").render_as_string(hide_password=False))
    monkeypatch.setenv("WITHDRAWALS_DATABASE_ROLE", role := f"service_{uuid4().hex[:8]}")  # new to the server, too
    watching = sqlalchemy.create_engine(empty.url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    second: subprocess.Popen[str] | None = None
    # A session shows the statement it ran last: between two questions that is the COMMIT of the one before.
    asks = text("""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :first
        AND application_name = 'withdrawals' AND (query LIKE '%pg_try_advisory_lock%' OR query = 'COMMIT')""")

    def before_commit(first: Connection) -> None:
        nonlocal second
        if second is None:
            command = [sys.executable, "-m", "ops", "migrate"]
            second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            its_pid = {"first": driver(first).info.backend_pid}
            with watching.connect() as connection:
                eventually(lambda: connection.scalar(asks, its_pid), what="the second waits for the first")

    sqlalchemy.event.listen(empty, "commit", before_commit)
    try:
        assert migrate(empty, role=role) == head()
        assert second is not None
        out, err = second.communicate(timeout=PATIENCE)
        assert second.returncode == 0, err
        assert head() in out
    finally:
        if second is not None:
            second.kill()
            second.communicate()
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM withdrawals.schema_version")) == 1


def test_a_migration_waits_briefly_for_a_lock_and_begins_again(
    empty: sqlalchemy.Engine, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a lock lets everybody else wait: so nobody waits behind a migration for long."""
    migrate(empty, role=environment.database_role)
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT", 50)
    given_up = 0

    def count(context: ExceptionContext) -> None:
        nonlocal given_up
        given_up += 1
        if given_up == 2:
            busy.rollback()

    sqlalchemy.event.listen(empty, "handle_error", count)
    with empty.connect() as busy:
        busy.execute(text("LOCK TABLE withdrawals.schema_version"))
        assert migrate(empty, role=environment.database_role) == head()
    assert given_up == 2


def test_a_migration_that_fails_leaves_nothing_of_itself_and_is_repeated(
    empty: sqlalchemy.Engine, environment: Settings
) -> None:
    with empty.begin() as connection:
        connection.execute(text("CREATE SCHEMA withdrawals"))
        connection.execute(text("CREATE TABLE withdrawals.audit (it text)"))
    with pytest.raises(ProgrammingError, match="already exists"):
        migrate(empty, role=environment.database_role)
    assert {row[2] for row in everything(empty, "withdrawals")} == {"audit"}
    with empty.begin() as connection:
        connection.execute(text("DROP TABLE withdrawals.audit"))
    assert migrate(empty, role=environment.database_role) == head()


def test_the_platforms_own_schema_is_left_untouched(empty: sqlalchemy.Engine, environment: Settings) -> None:
    """With columns, keys, triggers and rows of its own, as a platform has them; rights are what it gains."""
    with empty.begin() as connection:
        connection.exec_driver_sql("""
            CREATE SCHEMA lms;
            CREATE TABLE lms.organisations (id bigint PRIMARY KEY, name text, timezone text, plan text DEFAULT 'gold');
            CREATE TABLE lms.learners (id bigint PRIMARY KEY, organisation_id bigint, external_id text, email text,
                display_name text, active bool, shoe_size int CHECK (shoe_size > 0));
            CREATE TABLE lms.series (id bigint PRIMARY KEY, organisation_id bigint, code text, title text);
            CREATE TABLE lms.pathways (id bigint PRIMARY KEY, organisation_id bigint, title text);
            CREATE TABLE lms.enrolments (id bigint PRIMARY KEY, organisation_id bigint, learner_id bigint,
                series_id bigint, pathway_id bigint, status text, enrolled_at timestamptz, due_at timestamptz,
                progress numeric, withdrawn_at timestamptz, withdrawal_reason text, withdrawn_by text);
            CREATE FUNCTION lms.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE TRIGGER touch BEFORE UPDATE ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION lms.touch();
            INSERT INTO lms.organisations VALUES (7, 'Acme', 'UTC');""")
    before = everything(empty, "lms")
    migrate(empty, role=environment.database_role)
    after = everything(empty, "lms")
    gained = [row for row in after if row not in before]
    assert [row for row in before if row not in after] == []
    assert {(row[0], row[3]) for row in gained} == {("rights", environment.database_role)}
    with empty.connect() as connection:
        assert [tuple(row) for row in connection.execute(text("SELECT * FROM lms.organisations"))] == [
            (7, "Acme", "UTC", "gold")
        ]


JOB: dict[str, Any] = {
    "organisation_id": 1, "reason": "not_required", "source": "bulk", "requested_by": "x", "door": "cli",
    "idempotency_key": "k", "request_hash": b"", "state": "scheduled", "accepted": 1, "effective_at": "now",
}  # fmt: skip
CHUNK: dict[str, Any] = {
    "organisation_id": 1, "number": 0, "lane": 1, "enrolment_ids": [1], "size": 1, "state": "ready",
}  # fmt: skip
LETTER: dict[str, Any] = {
    "organisation_id": 1, "code": "not_found", "enrolment_id": 1, "message": "m", "fingerprint": "f",
}  # fmt: skip
OUTCOME: dict[str, Any] = {"organisation_id": 1, "enrolment_id": 1, "outcome": "withdrawn"}
PERSON: dict[str, Any] = {"organisation_id": 1, "external_id": "anna"}
AUDIT: dict[str, Any] = {"organisation_id": 1, "actor": "x", "action": "y"}

IMPOSSIBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "a reason that is on no list (rule 1)": ("jobs", {"reason": "bored"}),
    "a withdrawal without a reason (rule 1)": ("jobs", {"reason": None}),
    "a reinstatement with a reason": ("jobs", {"kind": "reinstate"}),
    "a source that is on no list": ("jobs", {"source": "rumour"}),
    "a kind that is on no list": ("jobs", {"kind": "delete"}),
    "a correction of something else (rule 1)": ("jobs", {"source": "correction"}),
    "a deactivation without a person": ("jobs", {"source": "hr", "reason": "user_deactivated", "epoch": 1}),
    "a deactivation without an epoch": (
        "jobs", {"source": "hr", "reason": "user_deactivated", "learner_external_id": "anna"}),
    "a bulk job that is superseded (rule 10)": ("jobs", {"state": "superseded", "finished_at": "now"}),
    "a job state that is on no list": ("jobs", {"state": "running"}),
    "a queued job that nobody admitted": ("jobs", {"state": "queued"}),
    "a finished job without a time": ("jobs", {"state": "completed"}),
    "an unfinished job with a time": ("jobs", {"finished_at": "now"}),
    "a door that is none": ("jobs", {"door": "window"}),
    "a door of no HR source": ("jobs", {"door": "hr:"}),
    "a job without a key": ("jobs", {"idempotency_key": ""}),
    "a job that nobody asked for": ("jobs", {"requested_by": ""}),
    "less than nothing accepted": ("jobs", {"accepted": -1}),
    "a claimed chunk without a token": ("chunks", {"state": "claimed", "claimed_at": "now", "lease_until": "now"}),
    "a claimed chunk without a lease": ("chunks", {"state": "claimed", "token": uuid4(), "claimed_at": "now"}),
    "a chunk state that is on no list": ("chunks", {"state": "lost"}),
    "a chunk of ids and a person": ("chunks", {"learner_external_id": "anna"}),
    "a chunk of neither": ("chunks", {"enrolment_ids": None}),
    "a chunk that is done at no time": ("chunks", {"state": "done"}),
    "a ready chunk with a time": ("chunks", {"closed_at": "now"}),
    "a failed chunk without a letter": ("chunks", {"state": "failed", "closed_at": "now"}),
    "a person split in two": (
        "chunks", {"state": "split", "closed_at": "now", "enrolment_ids": None, "learner_external_id": "anna"}),
    "a letter chunk that nobody asked for": ("chunks", {"redrives": "letter"}),
    "a chunk that somebody asked for without a letter": ("chunks", {"asked_by": "x"}),
    "a chunk of a job that is not there": ("chunks", {"job_id": 999}),
    "an outcome that is on no list": ("outcomes", {"outcome": "maybe"}),
    **{f"an outcome {outcome} without a letter": ("outcomes", {"outcome": outcome})
       for outcome in ("pathway_owned", "unknown_status", "not_found", "failed")},
    "an outcome of a chunk that is not there": ("outcomes", {"chunk_id": 999}),
    "a letter code that is on no list": ("dead_letters", {"code": "bored"}),
    "a letter state that is on no list": ("dead_letters", {"state": "lost"}),
    "a letter about nothing": ("dead_letters", {"enrolment_id": None}),
    "a letter that was resolved by nobody": ("dead_letters", {"state": "resolved", "closed_at": "now"}),
    "an open letter that was closed": (
        "dead_letters", {"closed_at": "now", "closed_by": "x", "remedy": "keep"}),
    "a remedy that is on no list": (
        "dead_letters", {"state": "resolved", "closed_at": "now", "closed_by": "x", "remedy": "luck"}),
    "a person deactivated from no time on": ("persons", {"active": False}),
    "an active person who is due to be deactivated": ("persons", {"deactivation_due": True}),
    "an act of nobody": ("audit", {"actor": ""}),
    "a process that is none": ("processes", {"id": uuid4(), "kind": "cron", "threads": 1}),
}  # fmt: skip
POSSIBLE = {
    "chunks": CHUNK,
    "outcomes": OUTCOME,
    "dead_letters": LETTER,
    "persons": PERSON,
    "audit": AUDIT,
    "jobs": JOB,
}


def insert(connection: Connection, table: str, values: dict[str, Any]) -> int | None:
    """Insert one row; its id if it has one. `now` and `letter` stand for a time and for a letter that exists."""
    names = ", ".join(values)
    bound = ", ".join("now()" if value == "now" else f":{name}" for name, value in values.items())
    result = connection.execute(text(f"INSERT INTO withdrawals.{table} ({names}) VALUES ({bound}) RETURNING *"), values)
    row = result.mappings().one()
    return row.get("id") if isinstance(row.get("id"), int) else None


def base(connection: Connection) -> dict[str, Any]:
    """A job, a chunk and a letter that are as they should be."""
    job_id = insert(connection, "jobs", {**JOB, "idempotency_key": "base"})
    chunk_id = insert(connection, "chunks", {**CHUNK, "job_id": job_id})
    letter = insert(connection, "dead_letters", {**LETTER, "enrolment_id": 77})
    return {"job_id": job_id, "chunk_id": chunk_id, "letter": letter}


def row_of(table: str, wrong: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    needs = {"chunks": ["job_id"], "outcomes": ["job_id", "chunk_id"]}.get(table, [])
    row = {**POSSIBLE.get(table, {}), **{name: known[name] for name in needs}, **wrong}
    return {name: known["letter"] if value == "letter" else value for name, value in row.items()}


def test_rows_as_they_should_be_can_be_written(owner: Database) -> None:
    """Otherwise the refusals below would prove nothing."""
    with owner.begin() as connection:
        known = base(connection)
        for table in POSSIBLE:
            insert(connection, table, row_of(table, {}, known))
        connection.rollback()


def test_wrong_states_cannot_be_written_by_any_code(owner: Database, subtests: pytest.Subtests) -> None:
    for what, (table, wrong) in IMPOSSIBLE.items():
        with subtests.test(what), owner.engine.connect() as connection:
            known = base(connection)
            with pytest.raises(IntegrityError):
                insert(connection, table, row_of(table, wrong, known))


def test_an_outcome_has_a_chunk_and_keeps_it(owner: Database) -> None:
    """Checked once for all rows of a statement, so one wrong row among many is looked for."""
    with owner.engine.connect() as connection:
        known = base(connection)
        insert(connection, "outcomes", row_of("outcomes", {}, known))
        for wrong in (
            "INSERT INTO withdrawals.outcomes (job_id, organisation_id, enrolment_id, chunk_id, outcome) "
            "SELECT job_id, organisation_id, 100 + n, CASE n WHEN 7 THEN 999 ELSE chunk_id END, outcome "
            "FROM withdrawals.outcomes, generate_series(1, 9) n",
            "UPDATE withdrawals.outcomes SET chunk_id = 999",
            "DELETE FROM withdrawals.chunks",
            "UPDATE withdrawals.chunks SET id = DEFAULT",
        ):
            with pytest.raises(IntegrityError), connection.begin_nested():
                connection.execute(text(wrong))


def test_an_outcome_names_a_letter_that_exists_and_stays(owner: Database) -> None:
    with owner.engine.connect() as connection:
        known = base(connection)
        insert(connection, "outcomes", row_of("outcomes", {}, known))
        insert(connection, "dead_letters", LETTER)
        for wrong in (
            "INSERT INTO withdrawals.outcomes (job_id, organisation_id, enrolment_id, chunk_id, outcome, "
            "dead_letter_id) SELECT job_id, organisation_id, 100, chunk_id, 'not_found', 999 FROM withdrawals.outcomes",
            "UPDATE withdrawals.outcomes SET dead_letter_id = 999",
            "DELETE FROM withdrawals.dead_letters",
            "UPDATE withdrawals.dead_letters SET id = DEFAULT",
        ):
            with pytest.raises(IntegrityError), connection.begin_nested():
                connection.execute(text(wrong))


def test_an_outcomes_chunk_is_looked_up_by_its_key_however_many_there_are(db: Database) -> None:
    """The plan is kept by the connection that made it, over a table that was small then."""
    read = text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'chunks'")
    more = text(
        "INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state) "
        "SELECT :job_id, 1, n, 2, ARRAY[n], 1, 'ready' FROM generate_series(2, 500) n"
    )
    decide = text(
        "INSERT INTO withdrawals.outcomes (job_id, organisation_id, enrolment_id, chunk_id, outcome) "
        "SELECT :job_id, 1, n, :chunk_id, 'withdrawn' FROM generate_series(CAST(:first AS bigint), :first + 99) n"
    )
    with db.engine.connect() as connection:
        known = base(connection)
        values = {name: known[name] for name in ("job_id", "chunk_id")}
        before = connection.scalar(read)
        connection.execute(decide, {**values, "first": 100})
        connection.execute(more, values)
        connection.execute(decide, {**values, "first": 200})
        assert connection.scalar(read) == before


def test_a_key_has_one_job_an_enrolment_one_outcome_and_a_subject_one_letter(owner: Database) -> None:
    for table in ("jobs", "outcomes", "dead_letters", "persons"):
        with owner.engine.connect() as connection:
            known = base(connection)
            insert(connection, table, row_of(table, {}, known))
            with pytest.raises(IntegrityError, match="duplicate key"):
                insert(connection, table, row_of(table, {}, known))


def test_a_closed_letter_makes_room_for_another_and_a_redriven_one_does_not(owner: Database) -> None:
    closed = {"state": "resolved", "closed_at": "now", "closed_by": "x", "remedy": "keep"}
    with owner.engine.connect() as connection:
        insert(connection, "dead_letters", {**LETTER, **closed})
        insert(connection, "dead_letters", {**LETTER, **closed})
        insert(connection, "dead_letters", {**LETTER, "state": "redriven"})
        insert(connection, "dead_letters", {**LETTER, "organisation_id": 2})
        insert(connection, "dead_letters", {**LETTER, "learner_external_id": "anna"})
        insert(connection, "dead_letters", {**LETTER, "code": "pathway_owned"})
        with pytest.raises(IntegrityError, match="dead_letters_one_live"):
            insert(connection, "dead_letters", LETTER)


@pytest.mark.parametrize("act", ["UPDATE withdrawals.audit SET note = 'x'", "DELETE FROM withdrawals.audit",
                                 "TRUNCATE withdrawals.audit"])  # fmt: skip
def test_the_audit_cannot_be_rewritten_not_even_by_its_owner(owner: Database, db: Database, act: str) -> None:
    with owner.begin() as connection:
        insert(connection, "audit", AUDIT)
    with pytest.raises(DBAPIError, match="the audit is append-only"), owner.begin() as connection:
        connection.execute(text(act))
    with pytest.raises(ProgrammingError, match="permission denied"), db.begin() as connection:
        connection.execute(text(act))


REFUSED_RIGHTS = [
    "INSERT INTO lms.resource_access VALUES (1, 1)",
    "DELETE FROM lms.resource_access",
    "SELECT 1 FROM lms.resource_access",
    "DELETE FROM lms.enrolments",
    "INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status) VALUES (1, 1, 1, 'in_progress')",
    "UPDATE lms.enrolments SET progress = 0",
    "UPDATE lms.enrolments SET pathway_id = NULL",
    "UPDATE lms.learners SET external_id = 'x'",
    "INSERT INTO lms.learners (id, organisation_id, external_id) VALUES (7, 1, 'x')",
    "DELETE FROM lms.learners",
    "UPDATE lms.organisations SET timezone = 'UTC'",
    "UPDATE lms.series SET title = 'x'",
    "TRUNCATE lms.enrolments",
    "TRUNCATE withdrawals.jobs CASCADE",
    "CREATE TABLE lms.mine ()",
    "CREATE TABLE withdrawals.mine ()",
    "DROP TABLE withdrawals.processes",
    "ALTER TABLE withdrawals.audit DISABLE TRIGGER append_only",
]


def test_the_services_role_can_write_no_more_than_it_needs(db: Database, subtests: pytest.Subtests) -> None:
    """Rule 4: "Learning Resources stay open": no right to write them; and nothing is ever deleted (rule 3)."""
    for statement in REFUSED_RIGHTS:
        with (
            subtests.test(statement),
            pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
            db.begin() as connection,
        ):
            connection.execute(text(statement))


def test_learning_resources_stay_open_to_a_withdrawn_learner(world: World, db: Database, environment: Settings) -> None:
    """Rule 4: "Learning Resources stay open to a withdrawn learner"; rule 3: progress and history stay."""
    enrolment = world.enrolment()
    world.run("""INSERT INTO lms.resource_access (learner_id, series_id)
        SELECT learner_id, series_id FROM lms.enrolments""")
    world.run("UPDATE lms.enrolments SET progress = 55")
    before = world.run("SELECT * FROM lms.resource_access")
    world.event(db, "deactivated", "anna")
    decide_due(db, environment)
    assert world.status(enrolment) == "withdrawn"
    assert world.run("SELECT * FROM lms.resource_access") == before
    assert world.one("SELECT progress FROM lms.enrolments") == 55
    assert_balanced(db)
