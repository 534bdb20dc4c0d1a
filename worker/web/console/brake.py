"""The brake: its window and what used it, and limits that an owner proposes and a second person decides on."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import Response

from schemas.brake import LimitRequest
from schemas.jobs import Note
from worker.errors import ConflictError, InvalidInputError, OwnProposalError
from worker.jobs import brake, limits
from worker.ledger import limit_proposals
from worker.texts import text
from worker.web.console.forms import Text, parse
from worker.web.console.render import PATH
from worker.web.console.view import Approving, Looking, Owning, View
from worker.web.context import RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

ROWS = 20
"""Proposals that the page shows."""
HERE = f"{PATH}/brake"
GivenNote = Annotated[Note, Form()]


@router.get("/brake")
def show(view: Looking) -> Response:
    """The window, what used it, and the proposed limits."""
    return _page(view)


@router.post("/brake")
def propose(
    view: Owning,
    floor: Annotated[Text, Form()] = "",
    percent: Annotated[Text, Form()] = "",
    hours: Annotated[Text, Form()] = "",
    note: GivenNote = "",
) -> Response:
    """Propose limits; an empty field follows the default. Role: owner."""
    typed = {"floor": floor, "percent": percent, "hours": hours, "note": note}
    try:
        wanted = parse(
            LimitRequest,
            floor=_number(floor, "floor"),
            share=_share(percent),
            hours=_number(hours, "hours"),
            note=note or None,
        )
        view.act(partial(limits.propose, wanted=wanted))
    except (InvalidInputError, ConflictError) as refused:
        return _page(view, error=str(refused), status=422, typed=typed)
    return view.go(
        HERE, text("Proposed. The limits apply once another owner or approver has approved them."), tone="warn"
    )


@router.post("/brake/proposals/{proposal_id}/approve")
def approve(view: Approving, proposal_id: RowId, note: GivenNote = "") -> Response:
    """Let proposed limits apply from now on. Role: approver."""
    try:
        view.act(partial(limits.approve, proposal_id=proposal_id, note=note or None))
    except (ConflictError, OwnProposalError) as refused:
        return _page(view, error=str(refused), status=409)
    return view.go(HERE, text("Approved. The limits apply from now on; jobs that are held stay held."))


@router.post("/brake/proposals/{proposal_id}/reject")
def reject(view: Approving, proposal_id: RowId, note: GivenNote = "") -> Response:
    """Refuse proposed limits, with the reason. Role: approver."""
    try:
        view.act(partial(limits.reject, proposal_id=proposal_id, note=note))
    except (InvalidInputError, ConflictError, OwnProposalError) as refused:
        return _page(view, error=str(refused), status=409 if note.strip() else 422)
    return view.go(HERE, text("Rejected. The limits stay as they are."))


@router.post("/brake/proposals/{proposal_id}/withdraw")
def withdraw(view: Owning, proposal_id: RowId) -> Response:
    """Take back what one has proposed. Role: owner."""
    try:
        view.act(partial(limits.withdraw, proposal_id=proposal_id))
    except ConflictError as refused:
        return _page(view, error=str(refused), status=409)
    return view.go(HERE, text("Taken back. The limits stay as they are."))


def _page(view: View, *, error: str = "", status: int = 200, typed: dict[str, str] | None = None) -> Response:
    found = brake.show(view.database, organisation_id=view.organisation_id)
    with view.database.begin() as connection:
        proposals = limit_proposals.list_proposals(connection, view.organisation_id, before=None, limit=ROWS)
    return view.page(
        "brake.html",
        status=status,
        found=found,
        own=found.proposal is not None and limits.is_own(view.database, found.proposal, view.caller.person),
        proposals=[one for one in proposals if one.state != "pending"],
        error=error,
        typed=typed or {},
    )


def _number(given: str, name: str) -> int | None:
    cleaned = given.replace(",", "").replace(" ", "")
    if not cleaned:
        return None
    if not (cleaned.isascii() and cleaned.isdigit()):
        raise InvalidInputError(text("{field}: enter a whole number, or leave it empty for the default", field=name))
    return int(cleaned)


def _share(percent: str) -> float | None:
    cleaned = percent.removesuffix("%").strip()
    if not cleaned:
        return None
    try:
        return round(float(cleaned) / 100, 9)
    except ValueError:
        said = text("share: enter a percentage from 0 to 100, or leave it empty for the default")
        raise InvalidInputError(said) from None
