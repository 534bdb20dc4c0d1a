"""What one sees first."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.web.console.render import PATH
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
def overview(view: Looking) -> Response:
    """All at a glance."""
    return view.page("overview.html")
