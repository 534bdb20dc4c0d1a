"""What happened to each enrolment of a job: `/v1/jobs/{id}/outcomes`."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.catalogue import Outcome
from worker.ids import parse_cursor
from worker.jobs import show
from worker.web.api.jobs import find_visible
from worker.web.auth import ReaderOfJobs
from worker.web.context import Context, Cursor, Limit, RowId
from worker.web.problems import describes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes(404, 410))


@router.get("/{job_id}/outcomes")
def list_outcomes(
    context: Context,
    who: ReaderOfJobs,
    job_id: RowId,
    outcome: Annotated[Outcome | None, Query(description="Only enrolments with this outcome.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[answers.JobOutcome]:
    """What happened to each enrolment of a job so far, by rising id; a producer sees its own."""
    find_visible(context, who, job_id)
    after = parse_cursor(cursor) or 0
    with context.database.begin() as connection:
        found = show.list_outcomes(
            connection, who.organisation_id, job_id, outcome=outcome, after=after, limit=limit + 1
        )
    items = [answers.JobOutcome.model_validate(item) for item in found[:limit]]
    return answers.Page(items=items, next_cursor=str(items[-1].enrolment_id) if len(found) > limit else None)
