"""Load sample data, migrate the database."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common, servers
from ops.cli.common import AsJson
from ops.loading import load_file
from ops.migrate import migrate as run_migrations
from worker.database import Database


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("load")(load)
    app.command("migrate")(migrate)


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


def migrate() -> None:
    """Create or upgrade the database's schema. Safe to run twice, and by two processes at the same time."""
    with servers.environment() as current:
        owner = Database(current, pool_size=1, as_owner=True)
        try:
            revision = run_migrations(owner.engine, role=current.database_role)
        finally:
            owner.close()
    common.out.print(f"the database is at revision {revision}")
