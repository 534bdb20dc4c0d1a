"""Jobs over HTTP: `/v1/jobs`."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from worker.errors import NotFoundError
from worker.ledger import reads
from worker.models import JobState
from worker.web.auth import Producer
from worker.web.context import Context, Cursor, Limit, before, page
from worker.web.problems import describes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes())


@router.get("")
def list_jobs(
    context: Context,
    who: Producer,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> answers.Page[answers.Job]:
    """Jobs, newest first; a producer sees its own. Role: producer."""
    with context.database.begin() as connection:
        found = reads.jobs(
            connection,
            who.organisation_id,
            state=state,
            requested_by=who.only_own,
            before=before(cursor),
            limit=limit,
        )
    return answers.Page(items=[answers.Job.model_validate(job) for job in found], next_cursor=page(found, limit))


@router.get("/{job_id}", responses=describes(404))
def show_job(context: Context, who: Producer, job_id: int) -> answers.Job:
    """One job with its counts; a producer sees its own. Role: producer."""
    with context.database.begin() as connection:
        found = reads.job(connection, who.organisation_id, job_id)
    if found is None or who.only_own not in (None, found.requested_by):
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return answers.Job.model_validate(found)
