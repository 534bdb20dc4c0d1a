"""Receipts of events over HTTP."""

from fastapi import APIRouter

from schemas import answers
from worker.people import inbox
from worker.web.auth import Viewer
from worker.web.context import Context, RowId
from worker.web.hooks.common import TAG
from worker.web.problems import describes

router = APIRouter(prefix="/v1/receipts", tags=[TAG], responses=describes())


@router.get("/{receipt_id}", responses=describes(404))
def show_receipt(context: Context, who: Viewer, receipt_id: RowId) -> answers.ShownReceipt:
    """What became of an event: whether it still waits, what the order of events made of it, and its job."""
    found = inbox.show(context.database, organisation_id=who.organisation_id, receipt_id=receipt_id)
    return answers.ShownReceipt.model_validate(found)
