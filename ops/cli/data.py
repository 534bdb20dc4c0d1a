"""Load sample data, migrate the database, check the books."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson
from ops.loading import load_file
from ops.migrate import migrate as run_migrations
from worker.database import Database
from worker.reports.books import check as check_books


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("load")(load)
    app.command("migrate")(migrate)
    app.command("check")(check)


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
    with common.environment() as current:
        owner = Database(current, pool_size=1, as_owner=True)
        try:
            revision = run_migrations(owner.engine, role=current.database_role)
        finally:
            owner.close()
    common.out.print(f"the database is at revision {revision}")


def check(json: AsJson = False) -> None:
    """Check the conservation formula and every invariant. Exit code 1 and a list: something is broken."""
    with common.database() as db:
        books = check_books(db)
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
