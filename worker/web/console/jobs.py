"""Pages of jobs: the list, one job with its live progress, and the outcome of each enrolment."""

from dataclasses import asdict, astuple, dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from schemas import answers
from schemas.catalogue import JobState, Outcome, Reason, Source
from schemas.job_filter import JobFilter
from schemas.saved_views import ListName
from worker.access.sessions import hash_of
from worker.database import Database
from worker.dead_letters import timeline
from worker.errors import ConflictError, InvalidInputError
from worker.faults import is_passing
from worker.ids import next_cursor, parse_cursor
from worker.jobs import control, held, plan, releases
from worker.jobs import show as show_jobs
from worker.jobs.show import show
from worker.ledger import decision_receipts, gauges, job_lists, outcomes
from worker.records import Job
from worker.web.api.progress import Ticket, stream
from worker.web.console import job_selection, saved_views
from worker.web.console.forms import PlatformId, Text, series_id_of
from worker.web.console.languages import span
from worker.web.console.plan_names import find_names
from worker.web.console.render import PATH
from worker.web.console.times import parse_days
from worker.web.console.view import COOKIE, Looking, View
from worker.web.context import Cursor, RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

ROWS = 50
PLANNED_AT_ONCE = 100_000
"""Enrolments. The plan of a larger held job takes seconds, so the page shows it only on request; their statuses are
counted up to this number."""


@dataclass(frozen=True, slots=True)
class JobForm:
    """The filter of jobs as a person typed it and as it is in the address of the page."""

    state: JobState | Literal[""]
    source: Source | Literal[""]
    reason: Reason | Literal[""]
    series: str
    learner: str
    requested_by: str
    created_from: str
    created_to: str

    @property
    def is_narrowed(self) -> bool:
        return any(astuple(self))

    @property
    def is_releasable(self) -> bool:
        """Whether the page that releases all that match has the same conditions."""
        return not any((self.reason, self.series, self.learner, self.created_from, self.created_to))

    def parse(self, view: View) -> JobFilter:
        """What the ledger is asked for.

        Raises:
            InvalidInputError: a day is none, or no Series has this code.
        """
        after, before = parse_days(self.created_from, self.created_to, view.zone)
        return JobFilter(
            state=self.state or None,
            source=self.source or None,
            reason=self.reason or None,
            series_id=series_id_of(view, self.series),
            learner_external_id=self.learner or None,
            requested_by=self.requested_by or None,
            created_after=after,
            created_before=before,
        )


@router.get("/jobs")
def list_jobs(
    view: Looking,
    state: JobState | Literal[""] = "",
    source: Source | Literal[""] = "",
    reason: Reason | Literal[""] = "",
    series: Annotated[PlatformId, Query()] = "",
    learner: Annotated[PlatformId, Query()] = "",
    requested_by: Annotated[Text, Query()] = "",
    created_from: Annotated[Text, Query()] = "",
    created_to: Annotated[Text, Query()] = "",
    sort: Literal["oldest", ""] = "",
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first unless `sort` says otherwise."""
    form = JobForm(state, source, reason, series, learner, requested_by, created_from, created_to)
    found, error = list[Job](), ""
    try:
        wanted = form.parse(view)
        found = show_jobs.list_jobs(
            view.database,
            organisation_id=view.organisation_id,
            wanted=wanted,
            last=parse_cursor(cursor),
            limit=ROWS,
            sort=sort or "newest",
        )
    except InvalidInputError as refused:
        error = str(refused)
    with view.database.begin() as connection:
        held = gauges.unfinished_jobs(connection, view.organisation_id).get("held", 0)
    return view.page(
        "jobs.html",
        status=422 if error else 200,
        jobs=found,
        next_cursor=next_cursor(found, ROWS),
        form=form,
        sort=sort,
        shelf=saved_views.shelf(view, ListName.JOBS, {**asdict(form), "sort": sort}),
        acts=job_selection.ACTS,
        most_ticked=job_selection.MOST,
        held=held,
        most=gauges.COUNTED_AT_MOST,
        states=list(JobState),
        sources=list(Source),
        reasons=list(Reason),
        error=error,
    )


@router.get("/jobs/{job_id}")
def show_job(view: Looking, job_id: RowId, wanted: Annotated[Literal["now", ""], Query(alias="plan")] = "") -> Response:
    """One job: the request, its progress, and the actions that are possible."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    with view.database.begin() as connection:
        pace = job_lists.decided_per_second(connection, job_id) if job.state is JobState.RUNNING else 0.0
        undone_by = job_lists.jobs_that_reinstate(connection, job_id)
        rows = decision_receipts.list_acts_on_jobs(connection, [job_id])
    acts = [timeline.describe_act(row) for row in rows]
    small = job.state is JobState.HELD and job.accepted <= PLANNED_AT_ONCE
    planning = job.finished_at is None and job.kind == "withdraw" and (small or wanted == "now")
    planned = _plan(view.services.pools.reports, job) if planning else None
    return view.page(
        "job.html",
        job=job,
        **_release_of(view, job),
        pace=pace,
        left=span(job.in_flight / pace) if pace >= 1 else "",
        undone_by=undone_by,
        acts=acts,
        released_by=next((row["actor"] for row in reversed(rows) if row["action"] == "job.release"), None),
        plan=planned,
        now=held.describe(planned.outcomes) if planned and job.state is JobState.HELD else None,
        names=find_names(view, planned),
        plan_failed=planning and planned is None,
    )


def _release_of(view: View, job: Job) -> dict[str, Any]:
    """What the form that releases a job needs: whether it is the viewer's own, and whether releasing takes two."""
    own = job.state is JobState.HELD and control.is_own(
        view.database, organisation_id=view.organisation_id, requested_by=job.requested_by, who=view.caller.person
    )
    releasable = [job.id] if job.state is JobState.HELD and not own and view.may("approver") else []
    return {"own": own, "for_two": view.act(partial(releases.list_for_two, job_ids=releasable))}


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


@router.get("/jobs/{job_id}/enrolments")
def list_enrolments(view: Looking, job_id: RowId, cursor: Cursor = None) -> Response:
    """The enrolments that a job names, decided or not: what an approver releases."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    with view.database.begin() as connection:
        found = show_jobs.list_enrolments(
            connection, view.organisation_id, job_id, after=parse_cursor(cursor) or 0, limit=ROWS + 1
        )
        is_first = cursor is None and job.accepted <= PLANNED_AT_ONCE
        statuses = outcomes.count_statuses(connection, view.organisation_id, job_id) if is_first else {}
        now = held.find_now(connection, view.organisation_id, [job_id]) if is_first else {}
    items = found[:ROWS]
    return view.page(
        "job_enrolments.html",
        job=job,
        **_release_of(view, job),
        items=items,
        statuses=statuses,
        now=now.get(job_id),
        next_cursor=str(items[-1].enrolment_id) if len(found) > ROWS else None,
    )
