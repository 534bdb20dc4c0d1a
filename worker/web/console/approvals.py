"""The approvals inbox: what waits for a second person, and the page of one approval, to which mails lead."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.jobs import Note
from worker.approvals import decisions
from worker.errors import (
    ConflictError,
    InvalidInputError,
    OwnApprovalError,
    OwnJobError,
    OwnProtectionError,
    WithdrawalsError,
)
from worker.jobs import releases
from worker.texts import text
from worker.web.console.render import PATH
from worker.web.console.view import Approving, Looking, View
from worker.web.context import RowId

router = APIRouter(prefix=f"{PATH}/approvals", include_in_schema=False)

ROWS = 20
"""Earlier approvals that the inbox shows."""
HERE = f"{PATH}/approvals"
GivenNote = Annotated[Note, Form()]
_REFUSED = (ConflictError, OwnApprovalError, OwnJobError, OwnProtectionError)


@router.get("")
def show_inbox(view: Looking) -> Response:
    """Everything that waits for a second person, oldest first."""
    db, organisation_id = view.database, view.organisation_id
    found = decisions.list_waiting(db, organisation_id=organisation_id)
    earlier = decisions.list_approvals(db, organisation_id=organisation_id, limit=ROWS)
    own = view.act(partial(decisions.list_own, found=found))
    others = [one.id for one in found if one.kind == "job" and (one.kind, one.id) not in own]
    return view.page(
        "approvals.html",
        found=found,
        own=own,
        for_two=view.act(partial(releases.list_for_two, job_ids=others if view.may("approver") else [])),
        earlier=[one for one in earlier if one.state != "pending"],
    )


@router.get("/{approval_id}")
def show(view: Looking, approval_id: RowId) -> Response:
    """One approval: who asked for what and why, what approving does, and what was decided."""
    return _page(view, approval_id)


@router.post("/{approval_id}/approve")
def approve(view: Approving, approval_id: RowId, note: GivenNote = "") -> Response:
    """Do what was asked for. Nobody approves what they asked for. Role: approver."""
    try:
        view.act(partial(decisions.approve, approval_id=approval_id, note=note or None))
    except _REFUSED as refused:
        return _page(view, approval_id, error=refused)
    return view.go(f"{HERE}/{approval_id}", text("Approved. What was asked for is being done."))


@router.post("/{approval_id}/reject")
def reject(view: Approving, approval_id: RowId, note: GivenNote = "") -> Response:
    """Refuse what was asked for, with the reason. Nobody rejects what they asked for. Role: approver."""
    try:
        view.act(partial(decisions.reject, approval_id=approval_id, note=note))
    except (InvalidInputError, *_REFUSED) as refused:
        return _page(view, approval_id, error=refused)
    return view.go(f"{HERE}/{approval_id}", text("Rejected. Nothing of it is done."))


@router.post("/{approval_id}/withdraw")
def withdraw(view: Approving, approval_id: RowId) -> Response:
    """Take back what one has asked for. Role: approver."""
    try:
        view.act(partial(decisions.withdraw, approval_id=approval_id))
    except ConflictError as refused:
        return _page(view, approval_id, error=refused)
    return view.go(f"{HERE}/{approval_id}", text("Taken back. Nothing of it is done."))


def _page(view: View, approval_id: int, *, error: WithdrawalsError | None = None) -> Response:
    status = 200 if error is None else 422 if isinstance(error, InvalidInputError) else 409
    return view.page(
        "approval.html",
        status=status,
        one=decisions.show(view.database, organisation_id=view.organisation_id, approval_id=approval_id),
        own=view.act(partial(decisions.is_own, approval_id=approval_id)),
        error=str(error or ""),
    )
