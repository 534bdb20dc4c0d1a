"""Load sample data, migrate, and look whether the books balance."""

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
    organisation: Annotated[str, typer.Option(help="Name; created when missing.")],
    json: AsJson = False,
) -> None:
    """Load enrolments into the platform's tables; creates what is missing, changes nothing that is there."""
    with common.database(as_owner=True) as db:
        loaded = load_file(db, file, organisation)
    if json:
        common.print_json(loaded)
        return
    common.out.print(f"{loaded.created:,} enrolments created, {loaded.existing:,} were there already")


def migrate() -> None:
    """Create or upgrade the database's schema; safe to run twice, and by two processes at once."""
    with common.environment() as current:
        owner = Database(current, pool_size=1, as_owner=True)
        try:
            revision = run_migrations(owner.engine, role=current.database_role)
        finally:
            owner.close()
    common.out.print(f"the database is at revision {revision}")


def check(json: AsJson = False) -> None:
    """Check conservation and every invariant; exit 1 and a list when something is broken."""
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
