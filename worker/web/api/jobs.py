"""Jobs over HTTP: `/v1/jobs`."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas import answers
from schemas.catalogue import JobState
from schemas.dead_letters import Act
from schemas.job_filter import JobFilter
from worker.errors import JobEndedError, NotFoundError
from worker.ids import next_cursor, parse_cursor
from worker.jobs import control
from worker.ledger import job_lists
from worker.records import Job
from worker.web.auth import Caller, Operator, Producer
from worker.web.context import Context, Cursor, Limit, RowId, Services
from worker.web.problems import WITH_BODY, describes

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
    wanted = JobFilter(state=state, requested_by=who.only_own)
    with context.database.begin() as connection:
        found = job_lists.list_jobs(connection, who.organisation_id, wanted, before=parse_cursor(cursor), limit=limit)
    return answers.Page(items=[answers.Job.model_validate(job) for job in found], next_cursor=next_cursor(found, limit))


@router.get("/{job_id}", responses=describes(404))
def show_job(context: Context, who: Producer, job_id: RowId) -> answers.Job:
    """One job with its counts; a producer sees its own. Role: producer."""
    return answers.Job.model_validate(visible(context, who, job_id))


@router.post("/{job_id}/cancel", responses=describes(*WITH_BODY, 404, "job_ended"))
def cancel_job(context: Context, who: Operator, job_id: RowId, act: Act | None = None) -> answers.Job:
    """Cancel what of a job is not decided yet; once more changes nothing. Role: operator."""
    job = control.cancel(
        context.database,
        organisation_id=who.organisation_id,
        job_id=job_id,
        actor=who.actor,
        note=act.note if act else None,
    )
    if job.state is not JobState.CANCELLED:
        raise JobEndedError(f"job {job_id} had ended before, as {job.state}; nothing was cancelled")
    return answers.Job.model_validate(job)


def visible(context: Services, who: Caller, job_id: int) -> Job:
    """A job that the caller may read.

    Raises:
        NotFoundError: there is none in this organisation, or it is not a producer's own.
    """
    with context.database.begin() as connection:
        found = job_lists.find_job(connection, who.organisation_id, job_id)
    if found is None or who.only_own not in (None, found.requested_by):
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found
