"""`drill`: can the service be restored from a backup?"""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common, servers
from ops.cli.check import print_books
from ops.cli.common import AsJson


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("drill")(drill_restore)


def drill_restore(
    dump: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A backup of `pg_dump --format=custom`. Default: one that is taken now."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the restored database there.")] = False,
    json: AsJson = False,
) -> None:
    """Restore a backup into a database of its own, and check the books there. The service goes on meanwhile.

    Needs pg_dump and pg_restore of the server's version on PATH, and a login that may create a database. Exit code 1:
    the books of the restored database are broken.
    """
    from ops.drill import drill  # noqa: PLC0415 - only this command needs it

    with servers.environment() as current:
        done = drill(current, dump=dump, keep=keep, on_step=lambda step: common.err.print(f"{step} …"))
    if json:
        common.print_json(
            {
                "clean": done.books.clean,
                "database": done.database if keep else None,
                "revision": done.revision,
                "migrated": done.migrated,
                "bytes": done.bytes,
                "rows": done.rows,
                "totals": done.books.totals,
                "seconds": done.seconds,
            }
        )
    else:
        common.out.print(common.table("table", "rows", rows=[(name, f"{n:,}") for name, n in done.rows.items()]))
        spent = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in done.seconds.items())
        common.out.print(f"Backup of {done.bytes:,} bytes, revision {done.revision}. {spent}.")
        print_books(done.books)
        if keep:
            common.out.print(f"The copy is the database {done.database}.")
    if not done.books.clean:
        raise typer.Exit(1)
