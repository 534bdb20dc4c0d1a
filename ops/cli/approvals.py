"""Approvals: acts that wait for a second person."""

from typing import Annotated, get_args

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Note, Organisation
from schemas.approvals import Approval, State
from schemas.brake import Rejection
from worker.approvals import decisions
from worker.errors import unknown_value

group = typer.Typer(
    no_args_is_help=True,
    help="Acts that need a second person, as the policies say: list what waits; approve, reject or withdraw it.",
)
ApprovalId = Annotated[int, typer.Argument(help="The approval's id.", callback=common.refuse_large_id("approval"))]


@group.command("waiting")
def list_waiting(limit: Limit = None, organisation: Organisation = None, json: AsJson = False) -> None:
    """List everything that waits for a second person, oldest first: approvals, limits of the brake, held jobs."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = decisions.list_waiting(db, organisation_id=org, limit=common.page_size(limit, json))
    common.print_list(
        found,
        json,
        columns=("kind", "id", "what", "asked for by", "since", "learners", "reason"),
        row=lambda one: (one.kind, one.id, one.what, one.requested_by, one.requested_at, one.size, one.reason),
    )


@group.command("list")
def list_approvals(
    state: Annotated[
        str | None, typer.Option(help="Only these: pending, approved, rejected, withdrawn or expired.")
    ] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List acts that were asked for, newest first, with what was decided."""
    if state is not None and state not in get_args(State):
        raise unknown_value("--state", state, get_args(State))
    with common.database() as db:
        org, most = common.organisation_id(db, organisation), common.page_size(limit, json)
        found = decisions.list_approvals(db, organisation_id=org, state=state, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("approval", "state", "act", "of", "asked for by", "expires", "decided by"),
        row=lambda one: (one.id, one.state, one.act, one.subject, one.requested_by, one.expires_at, one.decided_by),
        most=most,
    )


@group.command("show")
def show(approval_id: ApprovalId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one approval: who asked for what and why, and what approving it does."""
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = decisions.show(db, organisation_id=org, approval_id=approval_id)
    _print(found, json)


@group.command("approve")
def approve(
    approval_id: ApprovalId,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Do what was asked for. Nobody approves what they asked for."""
    with common.acting(organisation, acting) as (db, org, who):
        found = decisions.approve(db, organisation_id=org, approval_id=approval_id, who=who, note=note)
    _print(found, json)


@group.command("reject")
def reject(
    approval_id: ApprovalId,
    note: Annotated[str, typer.Option(help="Why.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Refuse what was asked for. Nobody rejects what they asked for."""
    wanted = common.parse(Rejection, note=note)
    with common.acting(organisation, acting) as (db, org, who):
        found = decisions.reject(db, organisation_id=org, approval_id=approval_id, who=who, note=wanted.note)
    _print(found, json)


@group.command("withdraw")
def withdraw(
    approval_id: ApprovalId, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Take back what you have asked for."""
    with common.acting(organisation, acting) as (db, org, who):
        found = decisions.withdraw(db, organisation_id=org, approval_id=approval_id, who=who)
    _print(found, json)


def _print(found: Approval, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    by = f" by {found.decided_by}" if found.decided_by else f" until {found.expires_at:%Y-%m-%d %H:%M}Z"
    why = found.decision_note or found.reason
    common.out.print(
        f"approval {found.id}: {found.act}, {found.subject}; {found.state}{by}. Asked for by {found.requested_by}. "
        f"{found.consequence}" + (f" Reason: {why}" if why else ""),
        markup=False,
    )
