"""Keys that encrypt secrets at rest: which are in use, and sealing anew with the newest."""

import typer

from ops.cli import common
from ops.cli.common import AsJson
from worker.access import keys
from worker.config import settings

group = typer.Typer(no_args_is_help=True, help="Keys that encrypt secrets at rest: list what is sealed, reseal.")


@group.command("list")
def list_values(json: AsJson = False) -> None:
    """Count what is sealed by an older key, and what no key opens. Exit code 1: something no key opens."""
    with common.database() as db:
        found = keys.look(db, settings())
    if json:
        common.print_json({"older": found.older, "unreadable": found.unreadable})
    else:
        rows = [(place, n, "an older key") for place, n in found.older.items()]
        rows += [(place, n, "no key that is set") for place, n in found.unreadable.items()]
        common.out.print(common.table("where", "values", "sealed by", rows=rows))
        if not rows:
            common.out.print("Everything is sealed by the first key.")
    if found.unreadable:
        raise typer.Exit(1)


@group.command("reseal")
def reseal(json: AsJson = False) -> None:
    """Seal anew, with the first key of WITHDRAWALS_SECRET_KEY, what an older one has sealed. May be repeated."""
    with common.database() as db:
        counts = keys.reseal(db, settings())
        left = keys.look(db, settings())
    if json:
        common.print_json({"resealed": counts, "older": left.older, "unreadable": left.unreadable})
    else:
        common.out.print(common.table("where", "sealed anew", rows=list(counts.items())))
    if left.unreadable:
        common.err.print("No key opens some values: put the key back that sealed them. `keys list` counts them.")
        raise typer.Exit(1)
