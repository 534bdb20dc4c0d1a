"""People: all that is known about one; erase one who asked for it, and let one count again who is back."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from schemas.people import ErasureRequest, PersonHistory
from worker.dead_letters import person_history
from worker.people import erasure

group = typer.Typer(no_args_is_help=True, help="People: show all about one, erase one, admit one who is back.")
ExternalId = Annotated[str, typer.Argument(help="The person's external id, compared exactly.")]


@group.command("show")
def show(
    external_id: ExternalId,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Show a person's enrolments, events, jobs, outcomes, dead letters, protections and approvals."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = person_history.show(db, organisation_id=org, external_id=external_id)
    if json:
        common.print_json(found)
        return
    _print(found)


@group.command("erase")
def erase(
    external_id: ExternalId,
    note: Annotated[
        str, typer.Option("--note", help="Why, for example the number of the request; no personal data.")
    ] = "",
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Another word that means the person, such as a former name; repeat."),
    ] = None,
    without_name: Annotated[
        bool, typer.Option("--without-name", help="Do not search texts for the display name, which others may share.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--plan", help="Count what would be erased, and write nothing.")] = False,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Erase a person from every table of the service. Needs the owner's login, as `migrate` does."""
    request = common.parse(ErasureRequest, external_id=external_id, note=note, also=also, with_name=not without_name)
    with common.database(as_owner=True) as db:
        org = common.organisation_id(db, organisation)
        if dry_run:
            _print_plan(erasure.plan(db, organisation_id=org, request=request), json)
            return
        done = erasure.erase(db, organisation_id=org, request=request, actor=common.actor(acting))
    if json:
        common.print_json({"pseudonym": done.pseudonym, "rows": done.counts})
        return
    common.out.print(common.table("table and column", "rows", rows=list(done.counts.items())))
    common.out.print(f"Erased. In place of the person stands {done.pseudonym}.")
    common.err.print("Now erase the person on the platform, and in exports that were downloaded.")


@group.command("admit")
def admit(external_id: ExternalId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Let events about an erased person count again, because the person is back."""
    request = common.parse(ErasureRequest, external_id=external_id)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        lifted = erasure.admit(db, organisation_id=org, external_id=request.external_id, actor=common.actor(acting))
    if json:
        common.print_json({"admitted": lifted})
    else:
        common.out.print("Events about the person count again." if lifted else "No such person was erased.")
    if not lifted:
        raise typer.Exit(1)


def _print_plan(found: erasure.ErasurePlan, json: bool) -> None:
    if json:
        common.print_json(
            {
                "pseudonym": found.pseudonym,
                "obstacles": found.obstacles,
                "rows_of_the_person": found.own,
                "texts_that_mention_the_person": found.mentions,
            }
        )
    else:
        rows = [(name, n, "the person's own") for name, n in found.own.items()]
        rows += [(name, n, "mentions the person") for name, n in found.mentions.items()]
        common.out.print(common.table("table and column", "rows", "what", rows=rows))
        common.out.print("Nothing was written.")
        for one in found.obstacles:
            common.err.print(f"In the way: {one}", markup=False)
    if found.obstacles:
        raise typer.Exit(1)


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
