"""The first page after signing in: the state of the service at a glance."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.ledger.gauges import COUNTED_AT_MOST
from worker.web.console.render import PATH
from worker.web.console.status import LATE_AFTER, read_status
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
def show(view: Looking) -> Response:
    """What runs, what waits and what failed."""
    found = read_status(view.database, view.settings, view.organisation_id, ping_broker=view.services.broker.ping)
    return view.page("overview.html", found=found, most=COUNTED_AT_MOST, late=LATE_AFTER)
