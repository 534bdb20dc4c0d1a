"""Jobs over HTTP: `/v1/jobs`."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from schemas import answers
from schemas.catalogue import JobState
from schemas.dead_letters import Act
from schemas.job_filter import JobFilter, JobOrder
from worker.errors import JobEndedError, NotFoundError
from worker.ids import next_cursor, parse_cursor
from worker.jobs import control, show
from worker.records import Job
from worker.web.auth import Caller, Operator, ReaderOfJobs
from worker.web.context import Context, Cursor, Limit, RowId, Services
from worker.web.problems import WITH_BODY, describes

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=describes())


class JobQuery(JobFilter):
    """The filter of jobs as query parameters, with the page."""

    model_config = ConfigDict(extra="ignore")

    sort: Annotated[JobOrder, Field(description="Which jobs come first, by their numbers.")] = "newest"
    limit: Limit = 50
    cursor: Cursor = None


@router.get("")
def list_jobs(context: Context, who: ReaderOfJobs, wanted: Annotated[JobQuery, Query()]) -> answers.Page[answers.Job]:
    """Jobs that match, newest first unless `sort` says otherwise; a producer sees its own."""
    if who.only_own is not None:
        if wanted.requested_by not in (None, who.only_own):
            return answers.Page(items=[], next_cursor=None)
        wanted = wanted.model_copy(update={"requested_by": who.only_own})
    found = show.list_jobs(
        context.database,
        organisation_id=who.organisation_id,
        wanted=wanted,
        last=parse_cursor(wanted.cursor),
        limit=wanted.limit,
        sort=wanted.sort,
    )
    items = [answers.Job.model_validate(job) for job in found]
    return answers.Page(items=items, next_cursor=next_cursor(found, wanted.limit))


@router.get("/{job_id}", responses=describes(404))
def show_job(context: Context, who: ReaderOfJobs, job_id: RowId) -> answers.Job:
    """One job with its counts; a producer sees its own."""
    return answers.Job.model_validate(find_visible(context, who, job_id))


@router.post("/{job_id}/cancel", responses=describes(*WITH_BODY, 404, "job_ended"))
def cancel_job(context: Context, who: Operator, job_id: RowId, act: Act | None = None) -> answers.Job:
    """Cancel what of a job is not decided yet. A job that is cancelled already stays as it is."""
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


def find_visible(context: Services, who: Caller, job_id: int) -> Job:
    """A job that the caller may read.

    Raises:
        NotFoundError: this organisation has no such job, or it is not a producer's own.
    """
    found = show.show(context.database, organisation_id=who.organisation_id, job_id=job_id)
    if who.only_own not in (None, found.requested_by):
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found
