"""Full rosters: what was planned, what was applied, and why."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Cursor, Limit, Organisation
from ops.cli.jobs import print_outcomes
from schemas.rosters import FINDINGS, Finding, Roster, RosterPlan
from worker.people import rosters

group = typer.Typer(no_args_is_help=True, help="Full rosters that were sent with `reconcile`: list, show, lines.")
RosterId = Annotated[int, typer.Argument(help="The roster's id.", callback=common.refuse_large_id("roster"))]


@group.command("list")
def list_rosters(
    limit: Limit = None, cursor: Cursor = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """List rosters, newest first."""
    with common.database() as db:
        org, most = common.organisation_id(db, organisation), common.page_size(limit, json)
        found = rosters.list_rosters(db, organisation_id=org, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("roster", "state", "as of", "people", "active", "findings", "job", "accepted by"),
        row=lambda one: (
            one.id, one.state, one.as_of, one.people, one.active, common.counts(one.findings), one.job_id,
            one.accepted_by,
        ),
        most=most,
    )  # fmt: skip


@group.command("show")
def show(roster_id: RosterId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one roster; while it is planned, with what it would do now."""
    with common.database() as db:
        found = rosters.show(db, organisation_id=common.organisation_id(db, organisation), roster_id=roster_id)
    print_plan(found, json)


@group.command("lines")
def lines(
    roster_id: RosterId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    organisation: Organisation = None,
) -> None:
    """Write every line of a planned roster with what was found and why, as CSV; later those that changed something."""
    with common.database() as db, output.open("w+b") as sink:
        org = common.organisation_id(db, organisation)
        rosters.write_lines(db, organisation_id=org, roster_id=roster_id, sink=sink)


def print_roster(found: Roster, json: bool) -> None:
    """Print a roster in a sentence, or as a document."""
    if json:
        common.print_json(found)
        return
    said = f"roster {found.id} of {found.as_of:%Y-%m-%d %H:%M}Z is {found.state}: {found.people:,} people, "
    common.out.print(f"{said}{common.counts(found.findings)}", markup=False)
    if found.job_id is not None:
        common.out.print(f"job {found.job_id} withdraws the people who left", markup=False)
    elif found.failure is not None:
        common.out.print(f"The last attempt failed at {found.failed_at:%Y-%m-%d %H:%M}Z: {found.failure}", markup=False)
        again = f"Confirm it again (withdrawals reconcile --confirm {found.id}), or send a newer roster."
        common.out.print("The relay tries again." if found.state == "accepted" else again, markup=False)
    elif found.state == "accepted":
        common.out.print(f"The relay applies it. Look with: withdrawals rosters show {found.id}", markup=False)


def print_plan(found: RosterPlan, json: bool) -> None:
    """Print a roster with its findings and the plan of its job."""
    if json:
        common.print_json(found)
        return
    print_roster(found, json=False)
    for name, people in found.samples.items():
        shown = ", ".join(
            f"{one.learner_external_id} (line {one.line})" if one.line else one.learner_external_id for one in people
        )
        common.out.print(f"{name} {found.findings.get(name, 0):,}: {FINDINGS[Finding(name)]}", markup=False)
        common.out.print(f"  {shown}", markup=False)
    if found.plan is not None:
        print_outcomes(found.plan)
    if found.state == "planned":
        common.out.print(f"Nothing has changed. To apply it: withdrawals reconcile --confirm {found.id}", markup=False)
