"""How long rows are kept, over HTTP: `/v1/retention`."""

from fastapi import APIRouter

from schemas.retention import Retention
from worker.reports import retention
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/retention", tags=["retention"], responses=describes())


@router.get("")
def show_retention(context: Context, who: Viewer) -> Retention:
    """What is kept for how long by the settings of the service, and what was let go of the organisation."""
    return retention.show(context.database, context.settings, organisation_id=who.organisation_id)
