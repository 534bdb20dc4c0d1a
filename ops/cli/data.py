"""Load sample data, migrate the database, and check that every accepted enrolment is accounted for."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson
from ops.loading import load_file
from ops.migrate import migrate as run_migrations
from worker.database import Database
from worker.reports.books import check as look


def register(app: typer.Typer) -> None:
    """Put this module's commands on the tree."""
    app.command("load")(load)
    app.command("migrate")(migrate)
    app.command("check")(check)


def load(
    file: Annotated[Path, typer.Argument(help="CSV with a header; - is standard input.")],
    organisation: Annotated[str, typer.Option(help="Its name. A missing one is created.")],
    json: AsJson = False,
) -> None:
    """Load enrolments into the platform's tables. Creates missing records; changes no existing ones."""
    with common.database(as_owner=True) as db:
        loaded = load_file(db, file, organisation)
    if json:
        common.print_json(loaded)
        return
    common.out.print(f"Created {loaded.created:,} enrolments; {loaded.existing:,} already existed.")


def migrate() -> None:
    """Create or upgrade the database schema. Safe to run twice, and from two processes at once."""
    with common.environment() as current:
        owner = Database(current, pool_size=1, as_owner=True)
        try:
            revision = run_migrations(owner.engine, role=current.database_role)
        finally:
            owner.close()
    common.out.print(f"The database is at revision {revision}.")


def check(json: AsJson = False) -> None:
    """Check conservation and every invariant. If one is broken, list them and exit with 1."""
    with common.database() as db:
        books = look(db)
    if json:
        common.print_json({"clean": books.clean, "totals": books.totals, "violations": books.violations})
    else:
        totals = books.totals
        common.out.print(
            f"accepted {totals['accepted']:,} = outcomes {totals['outcomes']:,} + unfinished {totals['unfinished']:,}"
            f" + closed whole {totals['closed_whole']:,}  ({totals['jobs']:,} jobs)"
        )
        for violation in books.violations:
            common.out.print(f"broken: {violation.rule}: {violation.subject}", markup=False)
        common.out.print("clean" if books.clean else "NOT clean")
    if not books.clean:
        raise typer.Exit(1)
