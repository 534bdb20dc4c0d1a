"""Forms that act on jobs: pause, resume, cancel, move, and release, of one job or of all that match."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query
from starlette.responses import Response

from schemas.answers import Released
from schemas.catalogue import JobState, Source
from schemas.job_filter import ReleaseFilter
from schemas.jobs import Moment, Note
from worker.errors import InvalidInputError
from worker.jobs import control
from worker.jobs.show import show
from worker.records import Job
from worker.texts import joined, text
from worker.web.console.forms import Text
from worker.web.console.render import PATH, local
from worker.web.console.times import parse_day_and_time
from worker.web.console.view import Approving, LookingAsApprover, LookingAsOperator, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

GivenNote = Annotated[Note, Form()]
HoldCause = Literal["brake", "policy", ""]


@router.post("/jobs/{job_id}/pause")
def pause(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Pause a job: chunks in progress finish, no other starts. Role: operator."""
    _act(view, control.pause, job_id, note)
    return view.go(
        _path_of(job_id), text("Paused. Work in progress finishes; nothing else starts until somebody resumes the job.")
    )


@router.post("/jobs/{job_id}/resume")
def resume(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Resume a paused job. Role: operator."""
    _act(view, control.resume, job_id, note)
    return view.go(_path_of(job_id), text("Resumed. The job continues where it stopped."))


@router.get("/jobs/{job_id}/cancel")
def cancel_page(view: LookingAsOperator, job_id: RowId) -> Response:
    """What cancelling the job would leave undone. Role: operator."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    return view.page("job_cancel.html", job=job)


@router.post("/jobs/{job_id}/cancel")
def cancel(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Cancel the enrolments of a job that are not decided yet. Role: operator."""
    job = _act(view, control.cancel, job_id, note)
    if job.state is not JobState.CANCELLED:
        return view.go(_path_of(job_id), text("The job had already ended, so nothing was cancelled."))
    left = job.outcomes.get("cancelled", 0)
    said = text("Cancelled. {left:,} of {accepted:,} enrolments stay as they are.", left=left, accepted=job.accepted)
    return view.go(_path_of(job_id), said)


@router.get("/jobs/{job_id}/move")
def move_page(view: LookingAsOperator, job_id: RowId) -> Response:
    """The form for another time of a job that has not started. Role: operator."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    at = local(job.effective_at, view.zone)
    return _move_form(view, job, day=f"{at:%Y-%m-%d}", at=f"{at:%H:%M}")


@router.post("/jobs/{job_id}/move")
def move(
    view: Operating, job_id: RowId, day: Annotated[Text, Form()] = "", at: Annotated[Text, Form()] = ""
) -> Response:
    """Give a job that has not started another time. Role: operator."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    try:
        moved = control.move(
            view.database,
            organisation_id=view.organisation_id,
            job_id=job_id,
            effective_at=parse_day_and_time(day, at, view.zone),
            actor=view.actor,
        )
    except InvalidInputError as error:
        return _move_form(view, job, day=day, at=at, error=str(error))
    at_last = local(moved.effective_at, view.zone)
    return view.go(_path_of(job_id), text("Moved to {at:%-d %b %Y, %H:%M}.", at=at_last))


def _move_form(view: View, job: Job, *, day: str = "", at: str = "", error: str = "") -> Response:
    status = 422 if error else 200
    return view.page("job_move.html", status=status, job=job, day=day, at=at, error=error)


@router.post("/jobs/{job_id}/release")
def release(view: Approving, job_id: RowId, note: GivenNote = "") -> Response:
    """Release a held job that somebody else asked for. Role: approver."""
    job = _act(view, partial(control.release, made_by=view.caller.made_by), job_id, note)
    waits = job.state is JobState.SCHEDULED
    said = (
        text("Approved and released. The job starts at its time.")
        if waits
        else text("Approved and released. The job has started.")
    )
    return view.go(_path_of(job_id), said)


@router.get("/jobs/release")
def release_page(
    view: LookingAsApprover,
    source: Source | Literal[""] = "",
    held_because: HoldCause = "",
    requested_by: Annotated[Text, Query()] = "",
) -> Response:
    """The held jobs that match a filter, before they are released. Role: approver."""
    wanted = _release_filter(source, held_because, requested_by, None)
    found = control.preview_release(
        view.database,
        organisation_id=view.organisation_id,
        wanted=wanted,
        actor=view.actor,
        made_by=view.caller.made_by,
    )
    chosen = {"source": source, "held_because": held_because, "requested_by": requested_by}
    return view.page("jobs_release.html", found=found, chosen=chosen, sources=list(Source))


@router.post("/jobs/release")
def release_matching(
    view: Approving,
    seen_at: Annotated[Moment, Form()],
    source: Annotated[Source | Literal[""], Form()] = "",
    held_because: Annotated[HoldCause, Form()] = "",
    requested_by: Annotated[Text, Form()] = "",
    note: GivenNote = "",
) -> Response:
    """Release all held jobs that match and were on the list that the approver saw. Role: approver."""
    done = control.release_matching(
        view.database,
        organisation_id=view.organisation_id,
        wanted=_release_filter(source, held_because, requested_by, seen_at),
        actor=view.actor,
        made_by=view.caller.made_by,
        note=note or None,
    )
    return view.go(f"{PATH}/jobs", say_released(done))


def _release_filter(
    source: Source | Literal[""], held_because: HoldCause, requested_by: str, seen_at: datetime | None
) -> ReleaseFilter:
    return ReleaseFilter(
        source=source.value if source else None,
        held_because=held_because or None,
        requested_by=requested_by or None,
        created_before=seen_at,
    )


def _act(view: View, act: Callable[..., Job], job_id: int, note: str) -> Job:
    return act(
        view.database, organisation_id=view.organisation_id, job_id=job_id, actor=view.actor, note=note or None
    )  # fmt: skip


def _path_of(job_id: int) -> str:
    return f"{PATH}/jobs/{job_id}"


def say_released(done: Released) -> str:
    """What became of held jobs that were to be released."""
    said = [text("No matching job is held any more.")]
    if done.released:
        said = [text("Released: {jobs}.", jobs=count_jobs(done.released))]
    if done.own:
        said.append(text("Still held, because you requested them: {jobs}.", jobs=count_jobs(done.own)))
    return joined(said)


def count_jobs(count: int) -> str:
    """How many jobs, in words that follow a colon."""
    return text("1 job") if count == 1 else text("{count:,} jobs", count=count)
