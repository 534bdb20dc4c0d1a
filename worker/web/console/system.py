"""The page for engineers: what runs, what is due, and what mends what is broken."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.web.console.render import PATH
from worker.web.console.status import LATE_AFTER, read_status
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("/system")
def show(view: Looking) -> Response:
    """What runs, what is due and what is broken, for engineers."""
    found = read_status(view.database, ping_broker=view.services.broker.ping)
    return view.page("system.html", found=found, late=LATE_AFTER)
