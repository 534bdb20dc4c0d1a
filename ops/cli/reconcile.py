"""`withdrawals reconcile`: compare a full roster with the platform and the events, and withdraw the people who left."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.bulk_files import FaultsTo, describe_faults, faults_file
from ops.cli.common import As, AsJson, Organisation
from ops.cli.rosters import print_plan, print_roster
from ops.files import open_binary
from schemas.rosters import RosterRequest
from worker.errors import InvalidInputError
from worker.jobs.files.faults import FileFaultsError
from worker.people import rosters


def register(app: typer.Typer) -> None:
    """Put the command on the tree."""
    app.command("reconcile")(reconcile)


def reconcile(
    file: Annotated[
        str | None,
        typer.Argument(help="The roster: CSV, XLSX or ODS, one line a person; - reads standard input."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="The time at which the roster was made; a day is its beginning. Newer events win."),
    ] = None,
    missing: Annotated[
        str, typer.Option(help="What follows for people who are not in the roster: withdraw or report.")
    ] = "withdraw",
    allow_shrink: Annotated[
        str | None, typer.Option(help="Why the roster may be much smaller than the last one. It is audited.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm at once, without a look at the plan.")] = False,
    confirm: Annotated[int | None, typer.Option(help="The id of a planned roster: apply it.")] = None,
    faults: FaultsTo = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Compare a full roster with the platform and the events, and withdraw the people who left.

    First it prints a plan, and nothing has changed. --confirm applies it: the relay does, and makes one job, which the
    brake may hold.
    """
    if (file is None) == (confirm is None):
        raise InvalidInputError("give FILE (or -) with --as-of, or --confirm ID")
    if file is not None and as_of is None:
        raise InvalidInputError("--as-of: the time at which the roster was made is needed")
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if confirm is not None:
            print_roster(rosters.confirm(db, organisation_id=org, roster_id=confirm, actor=who), json)
            return
        wanted = common.parse(RosterRequest, as_of=as_of, missing=missing, allow_shrink=allow_shrink)
        path = Path(file or "-")
        name = None if file == "-" else path.name
        with open_binary(path) as stream, faults_file(faults, stream) as faults_to:
            try:
                planned = rosters.plan_file(
                    db, organisation_id=org, actor=who, wanted=wanted, stream=stream, name=name, faults_to=faults_to
                )
            except FileFaultsError as error:
                raise InvalidInputError(describe_faults(error.faults.first, error.faults.count)) from None
        if yes:
            print_roster(rosters.confirm(db, organisation_id=org, roster_id=planned.id, actor=who), json)
        else:
            print_plan(planned, json)
