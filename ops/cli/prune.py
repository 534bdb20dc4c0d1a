"""`prune`: let go what was kept long enough; `retention`: what is kept for how long, and what was let go."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import psycopg
import sqlalchemy.exc
import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from worker.config import settings
from worker.database import Database
from worker.errors import InvalidInputError
from worker.ledger import retention_days
from worker.reports import retention
from worker.reports.prune import Planned, kept, plan, prune

_OWNER = (
    "The audit is left: only the owner of schema withdrawals may delete from it. Run this command once more with the "
    "owner's login in DATABASE_DIRECT_URL."
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("prune")(prune_rows)
    app.command("retention")(show_retention)


def prune_rows(
    only_plan: Annotated[bool, typer.Option("--plan", help="Print what would go, and change nothing.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="A directory: write the rows there as Parquet before they go.")
    ] = None,
    name: As = None,
    json: AsJson = False,
) -> None:
    """Delete what was kept for as long as WITHDRAWALS_JOB_KEEP_DAYS and its like say. Without them nothing goes.

    Everything that goes is recorded, so `check` still proves the books. A job keeps its row, its counts and its key.
    Stop it at any time: the next run goes on. Exit code 1: the audit was left, because it needs the owner's login.
    """
    who = common.actor(name)
    directory = _writable(export) if export else None
    current = settings()
    days = kept(current)
    if not days:
        common.err.print("Nothing was set to go: everything is kept for ever. See WITHDRAWALS_JOB_KEEP_DAYS.")
    if only_plan:
        with common.database() as db:
            _show(plan(db, days), json)
        return
    pruned: Counter[str] = Counter(dict.fromkeys(days, 0))
    files: list[str] = []

    def run(db: Database, mine: dict[str, int]) -> None:
        for step in prune(db, mine, actor=who, export=directory):
            pruned[step.kind] += step.rows
            files.extend(step.files)

    with common.database() as db:
        run(db, kept(current, "jobs", "receipts", "rosters"))
    left = False
    if "audit" in days:
        with _owner() as owner:
            left = owner is None
            if owner is not None:
                run(owner, kept(current, "audit"))
    if json:
        common.print_json({"pruned": pruned, "files": files, "left": ["audit"] if left else []})
    else:
        for kind, number in pruned.items():
            common.out.print(f"{kind}: {number:,} pruned, kept for {days[kind]:,} days")
        for file in files:
            common.out.print(f"wrote {file}", markup=False)
    if left:
        common.err.print(_OWNER)
        raise typer.Exit(1)


def show_retention(organisation: Organisation = None, json: AsJson = False) -> None:
    """Show for how long each kind of rows is kept, and what was let go."""
    with common.in_organisation(organisation) as (db, org):
        found = retention.show(db, settings(), organisation_id=org)
    if json:
        common.print_json(found)
        return
    rows = [(one.what, "for ever" if one.days is None else one.days, one.setting) for one in found.kept]
    common.out.print(common.table("what", "kept for days", "setting", rows=rows))
    steps = [(one.pruned_at, one.kind, one.day, f"{one.row_count:,}", one.pruned_by) for one in found.pruned]
    if steps:
        common.out.print(common.table("pruned", "what", "day", "rows", "by", rows=steps))


def _writable(directory: Path) -> Path:
    if not directory.is_dir():
        raise InvalidInputError(f"--export: there is no directory {directory}")
    return directory


@contextmanager
def _owner() -> Iterator[Database | None]:
    """The owner's connections; None if this login may not delete from the audit."""
    with ExitStack() as stack:
        found: Database | None = None
        try:
            opened = stack.enter_context(common.database(as_owner=True))
            with opened.begin() as connection:
                found = opened if retention_days.may_delete(connection, "audit") else None
        except sqlalchemy.exc.ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):  # the login may not even look
                raise
        yield found


def _show(found: list[Planned], json: bool) -> None:
    if json:
        common.print_json({"items": found, "next_cursor": None})
        return
    rows = [
        (one.kind, one.keep_days, f"{one.rows:,}", f"{one.outcomes:,}" if one.kind == "jobs" else "", one.oldest,
         f"{one.bytes / 2**20:,.1f} MB")
        for one in found
    ]  # fmt: skip
    if rows:
        common.out.print(common.table("what", "kept for days", "would go", "outcomes", "oldest", "size", rows=rows))
