"""A database that a test used serves the next one only if nothing of it is left."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.databases import Cluster, Databases

ROWS = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('lms', 'withdrawals')"


@pytest.fixture
def databases(cluster: Cluster, template: str) -> Iterator[Databases]:
    """Databases of this file's own."""
    found = Databases(cluster, template, prefix="again")
    yield found
    found.close()
    for (name,) in cluster.run("SELECT datname FROM pg_database WHERE datname LIKE 'again%'"):
        cluster.drop(str(name))


def contents(cluster: Cluster, name: str) -> dict[str, object]:
    """Every row of every table, and where the sequences stand."""
    with closing(cluster.session(name)) as session:
        found: dict[str, object] = {
            str(table): session.execute(f"SELECT json_agg(t)::text FROM {table} t".encode()).fetchall()
            for (table,) in session.execute(ROWS).fetchall()
        }
        found["sequences"] = session.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1").fetchall()
        return found


def test_a_database_that_is_used_again_is_as_the_template(
    databases: Databases, cluster: Cluster, template: str
) -> None:
    name = databases.take()
    with closing(cluster.session(name)) as session:
        session.execute("INSERT INTO lms.organisations (name, timezone) VALUES ('Acme', 'UTC')")
        session.execute("INSERT INTO lms.series (organisation_id, code, title) VALUES (1, 'FIRE', 'Fire')")
        session.execute("UPDATE withdrawals.leader SET process_id = gen_random_uuid(), since = now(), seen_at = now()")
    databases.give_back(name)
    assert databases.take() == name
    assert contents(cluster, name) == contents(cluster, template)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE public.mine (id int)",
        "ALTER TABLE withdrawals.chunks DROP CONSTRAINT size_is_counted",
        "ALTER TABLE withdrawals.audit DISABLE TRIGGER append_only",
        "GRANT INSERT ON lms.resource_access TO withdrawals_service",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ANALYZE lms.organisations",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1000', current_database()); END $$",
        "INSERT INTO lms.organisations (name, timezone) SELECT repeat('x',999) || n, '' FROM generate_series(1,4000) n",
    ],
)
def test_a_database_that_was_changed_is_not_used_again(databases: Databases, cluster: Cluster, change: str) -> None:
    name = databases.take()
    with closing(cluster.session(name)) as session:
        session.execute(change.encode())
    databases.give_back(name)
    assert databases.take() != name


def test_a_database_with_a_session_is_not_used_again(databases: Databases, cluster: Cluster) -> None:
    name = databases.take()
    with closing(cluster.session(name)):
        databases.give_back(name)
        assert databases.take() != name
