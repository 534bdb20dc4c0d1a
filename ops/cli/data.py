"""Load sample data, migrate the database, grant rights in it."""

from pathlib import Path
from typing import Annotated

import typer

from ops import grants as rights
from ops import migrate as migrations
from ops.cli import common, servers
from ops.cli.common import AsJson
from ops.grants import OWNER
from ops.loading import load_file
from ops.migrate import migrate as run_migrations
from worker.config import Settings, settings
from worker.database import Database
from worker.database_urls import parse_url
from worker.errors import InvalidInputError
from worker.ledger import processes
from worker.session_settings import LOGIN, Needed


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("load")(load)
    app.command("migrate")(migrate)
    app.command("grants")(grants)


def load(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header. - reads standard input.")],
    organisation: Annotated[str, typer.Option(help="Name. It is created if it does not exist.")],
    json: AsJson = False,
) -> None:
    """Load enrolments into the platform's tables. Creates what is missing and changes nothing that exists."""
    with common.database(as_owner=True) as db:
        loaded = load_file(db, file, organisation)
    if json:
        common.print_json(loaded)
        return
    common.out.print(f"{loaded.created:,} enrolments created, {loaded.existing:,} existed already")


def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="List the migrations that would be run, and run none.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL that would be run, and run none.")] = False,
    no_grants: Annotated[
        bool, typer.Option("--no-grants", help="Create no role and grant nothing: somebody else does.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Create or upgrade the database's schema. Safe to run twice, and by two processes at the same time.

    Exit code 1: the schema is up to date, but its role lacks rights on schema lms that this login may not grant. The
    SQL is printed, for the owner of that schema.
    """
    if (plan and sql) or (json and not plan):
        raise InvalidInputError("give one of --plan and --sql; --json only with --plan")
    with servers.environment() as current:
        owner = Database(current, pool_size=1, as_owner=True)
        try:
            if plan or sql:
                _print_migrations(owner, current, as_sql=sql, grant=not no_grants, json=json)
                return
            revision = run_migrations(owner.engine, role=current.database_role, grant=not no_grants)
            with owner.begin() as connection:
                missing = rights.missing(connection, current.database_role)
        finally:
            owner.close()
    common.out.print(f"the database is at revision {revision}")
    if missing:
        _print_missing(missing, current.database_role)
        raise typer.Exit(1)


def _print_migrations(owner: Database, current: Settings, *, as_sql: bool, grant: bool, json: bool) -> None:
    with owner.begin() as connection:
        found = processes.revision(connection)
        steps = migrations.plan(connection)
    if as_sql:
        printed = migrations.script(steps, found=found, role=current.database_role, grant=grant)
        common.out.print(printed, markup=False, end="")
    elif json:
        common.print_json({"revision": found, "items": steps, "next_cursor": None})
    else:
        common.out.print(f"the database is at revision {found or 'none'}; {len(steps)} migrations would be run")
        rows = [(step.revision, "alone" if step.online else "transaction", step.subject) for step in steps]
        common.out.print(common.table("revision", "runs as", "subject", rows=rows))


def _print_missing(missing: list[rights.Right], role: str) -> None:
    common.err.print(f"Role {role} lacks rights on schema lms. As the owner of that schema, run:")
    for line in rights.to_grant(missing, role):
        common.err.print(f"  {line}", markup=False)


def grants(
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL, and run none. Needs no database.")] = False,
    owner: Annotated[str | None, typer.Option(help="With --print: the login that runs migrations.")] = None,
    login: Annotated[str | None, typer.Option(help="With --print: the login of the service.")] = None,
) -> None:
    """Grant the service's role what it needs, or print the SQL for a DBA: roles, logins, timeouts, rights."""
    current = settings()
    if not print_ and (owner or login):
        raise InvalidInputError("--owner and --login: only with --print")
    if print_:
        database = parse_url(current.database_url.get_secret_value() or "postgresql://").get("dbname", "DATABASE")
        for line in rights.script(
            Needed.by(current), database=str(database), owner=owner or OWNER, login=login or LOGIN
        ):
            common.out.print(line, markup=False)
        return
    with common.database(as_owner=True) as db, db.begin() as connection:
        migrations.grant_rights(connection, current.database_role)
        missing = rights.missing(connection, current.database_role)
    if missing:
        _print_missing(missing, current.database_role)
        raise typer.Exit(1)
    common.out.print(f"role {current.database_role} has the rights that it needs")
