"""Decision receipts over HTTP."""

from fastapi import APIRouter

from schemas import desk as wire
from worker.dead_letters import decision_receipts
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/enrolments", tags=["enrolments"], responses=describes())


@router.get("/{enrolment_id}/history", responses=describes(404))
def show_history(context: Context, who: Viewer, enrolment_id: int) -> wire.EnrolmentHistory:
    """What was asked of an enrolment, by whom, which rule decided, and what happened since."""
    return decision_receipts.explain(context.database, organisation_id=who.organisation_id, enrolment_id=enrolment_id)
