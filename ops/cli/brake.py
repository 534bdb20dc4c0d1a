"""The brake of an organisation: its limits, its window, and limits that two people change."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Cursor, Limit, Note, Organisation
from schemas.brake import BrakeLimits, LimitProposal, LimitRequest, Rejection
from worker.jobs import brake, limits

group = typer.Typer(
    no_args_is_help=True,
    help="The brake, which holds an abnormal volume of withdrawals: show it; propose limits, approve or reject them.",
)
ProposalId = Annotated[int, typer.Argument(help="The proposal's id.", callback=common.refuse_large_id("proposal"))]
Floor = Annotated[int | None, typer.Option(help="Learners that may always be withdrawn in one window.")]
Share = Annotated[
    float | None, typer.Option(help="Share of the learners, from 0 to 1, that may be withdrawn in one window.")
]
Hours = Annotated[int | None, typer.Option(help="Length of the rolling window in hours, from 1 to 720.")]


@group.command("show")
def show(organisation: Organisation = None, json: AsJson = False) -> None:
    """Show the limits, how much of the window is used, and what used it."""
    with common.database() as db:
        found = brake.show(db, organisation_id=common.organisation_id(db, organisation))
    _print(found, json)


@group.command("propose")
@group.command("set", hidden=True)  # its name while one person could change the limits
def propose(
    floor: Floor = None,
    share: Share = None,
    hours: Hours = None,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Propose all limits: one that is left out follows the default. They apply once somebody else approves them."""
    wanted = common.parse(LimitRequest, floor=floor, share=share, hours=hours, note=note)
    with common.acting(organisation, acting) as (db, org, who):
        found = limits.propose(db, organisation_id=org, wanted=wanted, who=who)
    _print_proposal(found, json)
    if not json:
        common.err.print(f"Somebody else approves it: withdrawals brake approve {found.id}")


@group.command("proposals")
def list_proposals(
    limit: Limit = None, cursor: Cursor = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """List proposed limits, newest first, with what was decided."""
    with common.in_organisation(organisation) as (db, org):
        most = common.page_size(limit, json)
        found = limits.list_proposals(db, organisation_id=org, before=cursor, limit=most)
    common.print_list(
        found,
        json,
        columns=("proposal", "state", "limits", "proposed by", "expires", "decided by"),
        row=lambda one: (one.id, one.state, _describe(one), one.proposed_by, one.expires_at, one.decided_by),
        most=most,
    )


@group.command("approve")
def approve(
    proposal_id: ProposalId,
    note: Note = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Let proposed limits apply from now on. Nobody approves what they proposed."""
    with common.acting(organisation, acting) as (db, org, who):
        found = limits.approve(db, organisation_id=org, proposal_id=proposal_id, who=who, note=note)
    _print_proposal(found, json)


@group.command("reject")
def reject(
    proposal_id: ProposalId,
    note: Annotated[str, typer.Option(help="Why.")],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Refuse proposed limits, with the reason. Nobody rejects what they proposed."""
    wanted = common.parse(Rejection, note=note)
    with common.acting(organisation, acting) as (db, org, who):
        found = limits.reject(db, organisation_id=org, proposal_id=proposal_id, who=who, note=wanted.note)
    _print_proposal(found, json)


@group.command("withdraw")
def withdraw(
    proposal_id: ProposalId, organisation: Organisation = None, acting: As = None, json: AsJson = False
) -> None:
    """Take back what you have proposed."""
    with common.acting(organisation, acting) as (db, org, who):
        found = limits.withdraw(db, organisation_id=org, proposal_id=proposal_id, who=who)
    _print_proposal(found, json)


def _print(found: BrakeLimits, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    rows = [
        (name, f"{getattr(found, name):,}" if name != "share" else f"{found.share:.4g}", meaning)
        for name, meaning in (
            ("floor", "learners that may always be withdrawn in one window" + _default("floor", found)),
            ("share", "share of the learners that may be withdrawn in one window" + _default("share", found)),
            ("hours", "the rolling window, in hours" + _default("hours", found)),
            ("population", "learners active now, and those deactivated in the window"),
            ("volume", f"learners admitted in the window; past {found.limit:,} work is held"),
            ("redrives", "of these: attempts at dead letters"),
            ("held", "jobs that wait for a second person"),
        )
    ]
    common.out.print(common.table("", "", "", rows=rows))
    if found.used_by:
        jobs = [(one.job_id, f"{one.learners:,}", one.requested_by, one.admitted_at) for one in found.used_by]
        common.out.print(common.table("largest jobs of the window", "learners", "requested by", "admitted", rows=jobs))
    if found.proposal is not None:
        _print_proposal(found.proposal, json=False)


def _print_proposal(found: LimitProposal, json: bool) -> None:
    if json:
        common.print_json(found)
        return
    by = f", by {found.decided_by}" if found.decided_by else f", proposed by {found.proposed_by}"
    common.out.print(f"proposal {found.id}: {_describe(found)}; {found.state}{by}", markup=False)


def _describe(found: LimitProposal) -> str:
    floor = "default floor" if found.floor is None else f"floor {found.floor:,}"
    share = "default share" if found.share is None else f"share {found.share:.4g}"
    return f"{floor}, {share}, {'default' if found.hours is None else found.hours} hours"


def _default(name: str, found: BrakeLimits) -> str:
    return "" if name in found.own else " (default)"
