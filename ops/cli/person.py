"""A person's whole history: `withdrawals person show`."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from schemas.people import PersonHistory
from worker.dead_letters import person_history

group = typer.Typer(no_args_is_help=True, help="People: all that is known about one.")


@group.callback()
def main() -> None:
    """One command so far; with this it keeps its name."""


@group.command("show")
def show(
    external_id: Annotated[str, typer.Argument(help="The person's external id, compared exactly.")],
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Show a person's enrolments, events, jobs, outcomes, dead letters, protections and approvals."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = person_history.show(db, organisation_id=org, external_id=external_id)
    if json:
        common.print_json(found.model_dump(mode="json"))
        return
    _print(found)


def _print(found: PersonHistory) -> None:
    common.out.print(_head(found), markup=False)
    for one in found.live_protections:
        until = f"until {one.until:%Y-%m-%d %H:%M}Z" if one.until else "until it is lifted"
        of = f" of enrolment {one.enrolment_id}" if one.enrolment_id is not None else ""
        common.out.print(f"protected{of}: {one.kind} {until}: {one.reason}", style="bold", markup=False)
    if found.enrolments:
        rows = [(one.id, one.series_code, one.pathway_title, one.status, one.withdrawn_at) for one in found.enrolments]
        common.out.print(common.table("enrolment", "Series", "pathway", "status", "withdrawn", rows=rows))
    if found.history:
        lines = [
            (
                one.at,
                one.who or "",
                one.what + (f": {one.note}" if one.note else ""),
                f"job {one.job_id}" if one.job_id else "",
            )
            for one in found.history
        ]
        common.out.print(common.table("when", "who", "what", "", rows=lines))
    if found.cut:
        common.err.print(f"Only the newest are shown of: {', '.join(found.cut)}.", markup=False)


def _head(found: PersonHistory) -> str:
    if found.profile is None:
        return f"{found.external_id}: the platform does not know this person."
    names = [text for text in (found.profile.display_name, found.profile.email) if text]
    about = f" ({', '.join(names)})" if names else ""
    return f"{found.external_id}{about}: {'active' if found.profile.active else 'inactive'}"
