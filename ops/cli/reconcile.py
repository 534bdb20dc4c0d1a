"""`withdrawals reconcile`: compare a full roster with the platform and the events, and withdraw the people who left."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.bulk_files import FaultsTo, describe_faults, faults_file
from ops.cli.common import As, AsJson, Organisation
from ops.cli.rosters import print_plan, print_roster
from ops.files import open_binary, read_line
from schemas.rosters import RosterPlan, RosterRequest
from worker.database import Database
from worker.errors import InvalidInputError
from worker.jobs.files.faults import FileFaultsError
from worker.ledger import jobs
from worker.people import roster_pull, rosters

_OTHERS = 2
"""Of FILE, --pull and --confirm one is given."""


def register(app: typer.Typer) -> None:
    """Put the command on the tree."""
    app.command("reconcile")(reconcile)


def reconcile(
    file: Annotated[
        str | None,
        typer.Argument(help="The roster: CSV, XLSX, ODS or Parquet, one line a person; - reads standard input."),
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
    pull: Annotated[
        str | None,
        typer.Option(help="Instead of FILE: the URL of a SCIM server, such as https://hr.example/scim/v2."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token for --pull; - reads standard input.")
    ] = None,
    faults: FaultsTo = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Compare a full roster with the platform and the events, and withdraw the people who left.

    First it prints a plan, and nothing has changed. --confirm applies it: the relay does, and makes one job, which the
    brake may hold.
    """
    if [file, confirm, pull].count(None) != _OTHERS:
        raise InvalidInputError("give FILE (or -) with --as-of, or --pull URL with --token-file, or --confirm ID")
    if file is not None and as_of is None:
        raise InvalidInputError("--as-of: the time at which the roster was made is needed")
    if pull is not None and (token_file is None or as_of is not None):
        raise InvalidInputError("--pull: needs --token-file, and is of the time at which it begins")
    token = read_line(token_file) if token_file is not None else ""
    with common.database() as db:
        org, who = common.organisation_id(db, organisation), common.actor(acting)
        if confirm is not None:
            print_roster(rosters.confirm(db, organisation_id=org, roster_id=confirm, actor=who), json)
            return
        wanted = common.parse(RosterRequest, as_of=as_of, missing=missing, allow_shrink=allow_shrink)
        if pull is not None:
            with db.begin() as connection:  # before the first page: what happens meanwhile is newer
                begins = jobs.database_now(connection)
            wanted = common.parse(RosterRequest, as_of=begins, missing=missing, allow_shrink=allow_shrink)
            planned = rosters.plan_people(
                db, organisation_id=org, actor=who, wanted=wanted, people=roster_pull.pull(pull, token)
            )
            _answer(db, org, who, planned, yes=yes, json=json)
            return
        path = Path(file or "-")
        name = None if file == "-" else path.name
        with open_binary(path) as stream, faults_file(faults, stream) as faults_to:
            try:
                planned = rosters.plan_file(
                    db, organisation_id=org, actor=who, wanted=wanted, stream=stream, name=name, faults_to=faults_to
                )
            except FileFaultsError as error:
                raise InvalidInputError(describe_faults(error.faults.first, error.faults.count)) from None
        _answer(db, org, who, planned, yes=yes, json=json)


def _answer(db: Database, org: int, who: str, planned: RosterPlan, *, yes: bool, json: bool) -> None:
    if yes:
        print_roster(rosters.confirm(db, organisation_id=org, roster_id=planned.id, actor=who), json)
    else:
        print_plan(planned, json)
