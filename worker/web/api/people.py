"""People over HTTP: `/v1/people/{external_id}`."""

from typing import Annotated

from fastapi import APIRouter, Path

from schemas.jobs import ExternalId
from schemas.people import PersonHistory
from worker.dead_letters import person_history
from worker.web.auth import Viewer
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/people", tags=["people"], responses=describes())


@router.get("/{external_id:path}", responses=describes(404))
def show_person(context: Context, who: Viewer, external_id: Annotated[ExternalId, Path()]) -> PersonHistory:
    """All that is known about a person: enrolments, events, jobs, outcomes, dead letters, protections, approvals."""
    return person_history.show(context.database, organisation_id=who.organisation_id, external_id=external_id)
