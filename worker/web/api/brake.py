"""The brake over HTTP: `/v1/brake`. Its limits are changed by two people."""

from fastapi import APIRouter

from schemas import answers
from schemas.brake import BrakeLimits, LimitProposal, LimitRequest, Rejection
from schemas.dead_letters import Act
from worker.ids import next_cursor, parse_cursor
from worker.jobs import brake, limits
from worker.web.auth import Approver, Owner, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/brake", tags=["brake"], responses=describes())


@router.get("")
def show_brake(context: Context, who: Viewer) -> BrakeLimits:
    """The organisation's limits, how much of the window is used, and what used it."""
    return brake.show(context.database, organisation_id=who.organisation_id)


@router.put("", status_code=202, responses=describes(409))
def propose_limits(context: Context, who: Owner, body: LimitRequest) -> BrakeLimits:
    """Propose all limits; one that is left out follows the default. They apply once a second person approves them.

    The answer has the limits that apply now, and the `proposal`.
    """
    limits.propose(context.database, organisation_id=who.organisation_id, wanted=body, who=who.person)
    return brake.show(context.database, organisation_id=who.organisation_id)


@router.get("/proposals")
def list_proposals(
    context: Context, who: Viewer, limit: Limit = 50, cursor: Cursor = None
) -> answers.Page[LimitProposal]:
    """Limits that were proposed, newest first, with what was decided."""
    found = limits.list_proposals(
        context.database, organisation_id=who.organisation_id, before=parse_cursor(cursor), limit=limit
    )
    return answers.Page(items=found, next_cursor=next_cursor(found, limit))


@router.post("/proposals/{proposal_id}/approve", responses=describes(404, 409))
def approve_limits(context: Context, who: Approver, proposal_id: RowId, body: Act | None = None) -> LimitProposal:
    """Let proposed limits apply from now on. Nobody approves what they proposed."""
    note = body.note if body else None
    return limits.approve(
        context.database, organisation_id=who.organisation_id, proposal_id=proposal_id, who=who.person, note=note
    )


@router.post("/proposals/{proposal_id}/reject", responses=describes(404, 409))
def reject_limits(context: Context, who: Approver, proposal_id: RowId, body: Rejection) -> LimitProposal:
    """Refuse proposed limits, with the reason. Nobody rejects what they proposed."""
    return limits.reject(
        context.database, organisation_id=who.organisation_id, proposal_id=proposal_id, who=who.person, note=body.note
    )


@router.post("/proposals/{proposal_id}/withdraw", responses=describes(404, 409))
def withdraw_limits(context: Context, who: Owner, proposal_id: RowId) -> LimitProposal:
    """Take back what one has proposed."""
    return limits.withdraw(
        context.database, organisation_id=who.organisation_id, proposal_id=proposal_id, who=who.person
    )
