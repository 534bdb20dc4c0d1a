"""Retention: what is kept for how long, and what was let go."""

from fastapi import APIRouter
from starlette.responses import Response

from worker.reports import retention
from worker.web.console.settings.shown_once import SETTINGS
from worker.web.console.view import Looking

router = APIRouter(prefix=SETTINGS, include_in_schema=False)


@router.get("/retention")
def show(view: Looking) -> Response:
    """What is kept for how long by the settings of the service, and what was let go."""
    found = retention.show(view.database, view.settings, organisation_id=view.organisation_id)
    return view.page("settings_retention.html", found=found)
