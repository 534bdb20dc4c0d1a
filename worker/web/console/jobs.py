"""Pages of jobs: the list, one job with its live progress, and the outcome of each enrolment."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from schemas import answers
from schemas.catalogue import JobState, Outcome
from schemas.job_filter import JobFilter
from worker.access.sessions import hash_of
from worker.database import Database
from worker.dead_letters import timeline
from worker.errors import ConflictError, is_passing
from worker.ids import next_cursor, parse_cursor
from worker.jobs import control, plan
from worker.jobs import show as show_jobs
from worker.jobs.show import show
from worker.ledger import decision_receipts, gauges, job_lists, outcomes
from worker.records import Job
from worker.web.api.progress import Ticket, stream
from worker.web.console.forms import Text
from worker.web.console.plan_names import find_names
from worker.web.console.render import PATH, span
from worker.web.console.view import COOKIE, Looking
from worker.web.context import Cursor, RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

ROWS = 50
PLANNED_AT_ONCE = 100_000
"""Enrolments. The plan of a larger held job takes seconds, so the page shows it only on request."""


@router.get("/jobs")
def list_jobs(
    view: Looking,
    state: JobState | Literal[""] = "",
    requested_by: Annotated[Text, Query()] = "",
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first."""
    wanted = JobFilter(state=state or None, requested_by=requested_by or None)
    with view.database.begin() as connection:
        found = job_lists.list_jobs(connection, view.organisation_id, wanted, before=parse_cursor(cursor), limit=ROWS)
        held = gauges.unfinished_jobs(connection, view.organisation_id).get("held", 0)
    return view.page(
        "jobs.html",
        jobs=found,
        next_cursor=next_cursor(found, ROWS),
        state=state,
        requested_by=requested_by,
        held=held,
        most=gauges.COUNTED_AT_MOST,
        states=list(JobState),
    )


@router.get("/jobs/{job_id}")
def show_job(view: Looking, job_id: RowId, wanted: Annotated[Literal["now", ""], Query(alias="plan")] = "") -> Response:
    """One job: the request, its progress, and the actions that are possible."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    with view.database.begin() as connection:
        pace = job_lists.decided_per_second(connection, job_id) if job.state is JobState.RUNNING else 0.0
        undone_by = job_lists.jobs_that_reinstate(connection, job_id)
        rows = decision_receipts.list_acts_on_jobs(connection, [job_id])
    acts = [timeline.describe_act(row) for row in rows if row["action"] != "job.reinstate"]  # that made this job
    small = job.state is JobState.HELD and job.accepted <= PLANNED_AT_ONCE
    planning = job.finished_at is None and job.kind == "withdraw" and (small or wanted == "now")
    planned = _plan(view.services.pools.reports, job) if planning else None
    own = job.state is JobState.HELD and control.is_own(
        view.database, organisation_id=view.organisation_id, requested_by=job.requested_by, who=view.caller.person
    )
    return view.page(
        "job.html",
        job=job,
        own=own,
        pace=pace,
        left=span(job.in_flight / pace) if pace >= 1 else "",
        undone_by=undone_by,
        acts=acts,
        plan=planned,
        names=find_names(view, planned),
        plan_failed=planning and planned is None,
    )


def _plan(database: Database, job: Job) -> answers.Plan | None:
    """The plan of the undecided rest; None if the job has ended meanwhile or the database is too busy."""
    try:
        return plan.of_job(database, job.organisation_id, job.id)
    except ConflictError:
        return None
    except Exception as error:
        if not is_passing(error):
            raise
        return None


@router.get("/jobs/{job_id}/events")
async def events(
    view: Looking, request: Request, job_id: RowId, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """A job's progress as server-sent events, until the job or the session ends."""
    find = partial(show, view.database, organisation_id=view.organisation_id, job_id=job_id)
    ticket = Ticket.of(view.caller, hash_of(request.cookies[COOKIE]))
    return await stream(request, ticket, lambda: answers.Job.model_validate(find()), last_event_id)


@router.get("/jobs/{job_id}/outcomes")
def list_outcomes(view: Looking, job_id: RowId, outcome: Outcome | Literal[""] = "", cursor: Cursor = None) -> Response:
    """The outcome of each enrolment of a job so far."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    with view.database.begin() as connection:
        found = show_jobs.list_outcomes(
            connection,
            view.organisation_id,
            job_id,
            outcome=outcome or None,
            after=parse_cursor(cursor) or 0,
            limit=ROWS + 1,
        )
        items = found[:ROWS]
        ids = [item.enrolment_id for item in items if item.enrolment_id is not None]
        names = outcomes.find_names(connection, view.organisation_id, ids)
    return view.page(
        "job_outcomes.html",
        job=job,
        items=items,
        names=names,
        outcome=outcome,
        next_cursor=str(items[-1].enrolment_id) if len(found) > ROWS else None,
    )
