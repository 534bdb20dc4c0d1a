"""What is done to jobs: pause, resume, cancel, move, release, one or all that match."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query
from pydantic import StringConstraints
from starlette.responses import Response

from schemas.catalogue import JobState, Role, Source
from schemas.job_filter import ReleaseFilter
from schemas.jobs import Moment, Note, Storable
from worker.errors import InvalidInputError
from worker.jobs import control
from worker.jobs.show import show
from worker.records import Job
from worker.web.console.render import PATH, local
from worker.web.console.times import when
from worker.web.console.view import Approving, Looking, Operating, View
from worker.web.context import RowId

router = APIRouter(prefix=PATH, include_in_schema=False)

GivenNote = Annotated[Note, Form()]
Typed = Annotated[str, StringConstraints(max_length=40), Storable]
Because = Literal["brake", "policy", ""]
Requested = Annotated[str, StringConstraints(max_length=255, strip_whitespace=True), Storable]


@router.post("/jobs/{job_id}/pause")
def pause(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Let nothing more of a job begin. Role: operator."""
    _act(view, control.pause, job_id, note)
    return view.go(_of(job_id), "Paused. What is in hand finishes; nothing more begins until somebody resumes it.")


@router.post("/jobs/{job_id}/resume")
def resume(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Let a paused job go on. Role: operator."""
    _act(view, control.resume, job_id, note)
    return view.go(_of(job_id), "Resumed. It goes on where it stopped.")


@router.get("/jobs/{job_id}/cancel")
def cancel_page(view: Looking, job_id: RowId) -> Response:
    """What a cancel would leave. Role: operator."""
    view.caller.must_be(Role.OPERATOR)
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    return view.page("job_cancel.html", job=job)


@router.post("/jobs/{job_id}/cancel")
def cancel(view: Operating, job_id: RowId, note: GivenNote = "") -> Response:
    """Cancel what of a job is not decided yet. Role: operator."""
    job = _act(view, control.cancel, job_id, note)
    if job.state is not JobState.CANCELLED:
        return view.go(_of(job_id), "The job had ended before; nothing was cancelled.")
    left = job.outcomes.get("cancelled", 0)
    return view.go(_of(job_id), f"Cancelled. {_number(left)} of {_number(job.accepted)} stay as they are.")


@router.get("/jobs/{job_id}/move")
def move_page(view: Looking, job_id: RowId) -> Response:
    """Another time for a job that has not begun. Role: operator."""
    view.caller.must_be(Role.OPERATOR)
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    at = local(job.effective_at, view.zone)
    return _move_form(view, job, day=f"{at:%Y-%m-%d}", at=f"{at:%H:%M}")


@router.post("/jobs/{job_id}/move")
def move(
    view: Operating, job_id: RowId, day: Annotated[Typed, Form()] = "", at: Annotated[Typed, Form()] = ""
) -> Response:
    """Give a job that has not begun another time. Role: operator."""
    job = show(view.database, organisation_id=view.organisation_id, job_id=job_id)
    try:
        moved = control.move(
            view.database,
            organisation_id=view.organisation_id,
            job_id=job_id,
            effective_at=when(day, at, view.zone),
            actor=view.actor,
        )
    except InvalidInputError as error:
        return _move_form(view, job, day=day, at=at, error=str(error))
    return view.go(_of(job_id), f"Moved to {local(moved.effective_at, view.zone):%-d %b %Y, %H:%M}.")


def _move_form(view: View, job: Job, *, day: str = "", at: str = "", error: str = "") -> Response:
    status = 422 if error else 200
    return view.page("job_move.html", status=status, job=job, day=day, at=at, error=error)


@router.post("/jobs/{job_id}/release")
def release(view: Approving, job_id: RowId, note: GivenNote = "") -> Response:
    """Release a held job that somebody else asked for. Role: approver."""
    job = _act(view, control.release, job_id, note)
    then = "It begins at its time." if job.state is JobState.SCHEDULED else "It is under way."
    return view.go(_of(job_id), f"Released. {then}")


@router.get("/jobs/release")
def release_page(
    view: Looking,
    source: Source | Literal[""] = "",
    held_because: Because = "",
    requested_by: Annotated[Requested, Query()] = "",
) -> Response:
    """The held jobs that match, before they are released. Role: approver."""
    view.caller.must_be(Role.APPROVER)
    wanted = _matching(source, held_because, requested_by, None)
    found = control.preview_release(
        view.database, organisation_id=view.organisation_id, wanted=wanted, actor=view.actor
    )  # fmt: skip
    chosen = {"source": source, "held_because": held_because, "requested_by": requested_by}
    return view.page("jobs_release.html", found=found, chosen=chosen, sources=list(Source))


@router.post("/jobs/release")
def release_matching(
    view: Approving,
    seen_at: Annotated[Moment, Form()],
    source: Annotated[Source | Literal[""], Form()] = "",
    held_because: Annotated[Because, Form()] = "",
    requested_by: Annotated[Requested, Form()] = "",
    note: GivenNote = "",
) -> Response:
    """Release all held jobs that match and were there when the list was shown. Role: approver."""
    done = control.release_matching(
        view.database,
        organisation_id=view.organisation_id,
        wanted=_matching(source, held_because, requested_by, seen_at),
        actor=view.actor,
        note=note or None,
    )
    said = f"Released: {_number(done.released)}." if done.released else "Nothing that matches was held any more."
    if done.own:
        said += f" {_number(done.own)} stay held, because you asked for them."
    return view.go(f"{PATH}/jobs", said)


def _matching(
    source: Source | Literal[""], held_because: Because, requested_by: str, seen_at: datetime | None
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


def _of(job_id: int) -> str:
    return f"{PATH}/jobs/{job_id}"


def _number(value: int) -> str:
    return f"{value:,}"
