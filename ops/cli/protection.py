"""Protections: learners and enrolments that nothing withdraws for a time."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Organisation
from schemas.protections import Lift, Protection, ProtectionPolicy, ProtectionRequest
from worker.access.persons import Actor
from worker.people import protections

group = typer.Typer(
    no_args_is_help=True,
    help="Protect learners and enrolments from being withdrawn, for a legal hold or by an exemption; lift that again.",
)
ProtectionId = Annotated[
    int, typer.Argument(help="The protection's id.", callback=common.refuse_large_id("protection"))
]
Learner = Annotated[str | None, typer.Option("--learner", help="External id of a learner: all their enrolments.")]
Enrolment = Annotated[
    int | None, typer.Option("--enrolment", help="Id of an enrolment.", callback=common.refuse_large_id("enrolment"))
]


@group.command("add")
def add(
    kind: Annotated[str, typer.Option(help="legal_hold or exemption.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    learner: Learner = None,
    enrolment: Enrolment = None,
    until: Annotated[
        str | None, typer.Option(help="When it ends by itself: a time, or a day. An exemption needs it.")
    ] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Let nothing withdraw a learner or an enrolment from now on."""
    wanted = common.parse(
        ProtectionRequest, learner_external_id=learner, enrolment_id=enrolment, kind=kind, reason=reason, until=until
    )
    with common.acting(organisation, acting) as (db, org, who):
        found = protections.protect(db, organisation_id=org, wanted=wanted, who=who)
    _print(found, json)


@group.command("list")
def list_protections(
    live: Annotated[bool, typer.Option("--live", help="Only those in force now.")] = False,
    learner: Learner = None,
    enrolment: Enrolment = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List protections, newest first, also those that have ended."""
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json)
        found = protections.list_protections(
            db,
            organisation_id=org,
            live=live,
            learner_external_id=learner,
            enrolment_id=enrolment,
            before=cursor,
            limit=most,
        )
    common.print_list(
        found,
        json,
        columns=("protection", "state", "kind", "of", "until", "made by", "reason"),
        row=lambda one: (one.id, one.state, one.kind, _subject(one), one.until or "lifted", one.made_by, one.reason),
        most=most,
    )


@group.command("show")
def show(protection_id: ProtectionId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one protection, and what became of it."""
    with common.in_organisation(organisation) as (db, org):
        found = protections.show(db, organisation_id=org, protection_id=protection_id)
    _print(found, json)


@group.command("lift")
def lift(
    protection_id: ProtectionId,
    note: Annotated[str, typer.Option(help="Why.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """End a protection before its time. Nobody lifts what they set. What it kept back is tried again within a day."""
    wanted = common.parse(Lift, note=note)
    with common.acting(organisation, acting) as (db, org, who):
        found = protections.lift(db, organisation_id=org, protection_id=protection_id, who=who, note=wanted.note)
    _print(found, json)


@group.command("policy")
def policy(
    letters: Annotated[
        bool | None,
        typer.Option("--letters/--no-letters", help="Whether what was kept back becomes a dead letter."),
    ] = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Show or change what happens to a withdrawal that a protection kept back."""
    with common.in_organisation(organisation) as (db, org):
        if letters is None:
            found = protections.read_policy(db, organisation_id=org)
        else:
            wanted = ProtectionPolicy(letters=letters)
            found = protections.set_policy(db, organisation_id=org, wanted=wanted, who=Actor(common.actor(acting)))
    if json:
        common.print_json(found)
        return
    kept = "becomes a dead letter, and is tried again once it ends" if found.letters else "has the outcome `protected`"
    common.out.print(f"A withdrawal that a protection kept back {kept}.", markup=False)


def _print(found: Protection, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    until = f"until {found.until:%Y-%m-%d %H:%M}Z" if found.until else "until it is lifted"
    what = f"protection {found.id}: {_subject(found)}, {found.kind}, {until}; {found.state}"
    by = (
        f" by {found.lifted_by}: {found.lift_note}" if found.lifted_by else f", made by {found.made_by}: {found.reason}"
    )
    common.out.print(what + by, markup=False)


def _subject(found: Protection) -> str:
    if found.enrolment_id is not None:
        return f"enrolment {found.enrolment_id}"
    return f"learner {found.learner_external_id}"
