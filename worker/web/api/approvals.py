"""Approvals over HTTP: `/v1/approvals`. Nobody decides on what they asked for."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.approvals import Approval, Policies, PolicyRequest, State, Waiting
from schemas.brake import Rejection
from schemas.dead_letters import Act
from worker.access import policies as rules
from worker.approvals import decisions
from worker.ids import next_cursor, parse_cursor
from worker.web.auth import Approver, Owner, Viewer
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/approvals", tags=["approvals"], responses=describes())
policies = APIRouter(prefix="/v1/policies", tags=["approvals"], responses=describes())


@router.get("")
def list_approvals(
    context: Context,
    who: Viewer,
    state: Annotated[State | None, Query(description="Only approvals in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[Approval]:
    """Acts that were asked for, newest first, with what was decided."""
    found = decisions.list_approvals(
        context.database, organisation_id=who.organisation_id, state=state, before=parse_cursor(cursor), limit=limit
    )
    return answers.Page(items=found, next_cursor=next_cursor(found, limit))


@router.get("/waiting")
def list_waiting(context: Context, who: Viewer, limit: Limit = 100) -> answers.Page[Waiting]:
    """Everything that waits for a second person, oldest first: approvals, limits of the brake, and held jobs."""
    found = decisions.list_waiting(context.database, organisation_id=who.organisation_id, limit=limit)
    return answers.Page(items=found, next_cursor=None)


@router.get("/{approval_id}", responses=describes(404))
def show_approval(context: Context, who: Viewer, approval_id: RowId) -> Approval:
    """One approval, and what was decided about it."""
    return decisions.show(context.database, organisation_id=who.organisation_id, approval_id=approval_id)


@router.post("/{approval_id}/approve", responses=describes(404, 409))
def approve(context: Context, who: Approver, approval_id: RowId, body: Act | None = None) -> Approval:
    """Do what was asked for. Nobody approves what they asked for."""
    note = body.note if body else None
    return decisions.approve(
        context.database, organisation_id=who.organisation_id, approval_id=approval_id, who=who.person, note=note
    )


@router.post("/{approval_id}/reject", responses=describes(404, 409))
def reject(context: Context, who: Approver, approval_id: RowId, body: Rejection) -> Approval:
    """Refuse what was asked for, with the reason. Nobody rejects what they asked for."""
    return decisions.reject(
        context.database, organisation_id=who.organisation_id, approval_id=approval_id, who=who.person, note=body.note
    )


@router.post("/{approval_id}/withdraw", responses=describes(404, 409))
def withdraw(context: Context, who: Approver, approval_id: RowId) -> Approval:
    """Take back what one has asked for."""
    return decisions.withdraw(
        context.database, organisation_id=who.organisation_id, approval_id=approval_id, who=who.person
    )


@policies.get("")
def show_policies(context: Context, who: Viewer) -> Policies:
    """Who may do what alone, by act, source and size."""
    return rules.read(context.database, organisation_id=who.organisation_id)


@policies.put("", responses=describes(409, "second_person"))
def set_policies(context: Context, who: Owner, body: PolicyRequest) -> Policies:
    """Change all rules. Once another person could approve that, it waits for them: 409 `second_person`."""
    return rules.replace(context.database, organisation_id=who.organisation_id, wanted=body, who=who.person)
