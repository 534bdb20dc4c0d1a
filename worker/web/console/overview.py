"""What one sees first."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.ledger.overview import MOST
from worker.web.console import health_overview
from worker.web.console.render import PATH
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
def show(view: Looking) -> Response:
    """All at a glance."""
    found = health_overview.look(
        view.database, view.settings, view.organisation_id, reach_broker=view.services.broker.client.ping
    )
    return view.page("overview.html", found=found, most=MOST, late=health_overview.OVERDUE)
