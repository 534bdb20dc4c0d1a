"""Acts on several jobs at once: those that were ticked in the list, on any of its pages. A preview comes first.

Each job is acted on by itself, as on its own page: what refuses one leaves the others. A release goes by the one
function that releases many, so that policies count its jobs together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from pydantic import Field
from starlette.responses import Response

from schemas.catalogue import JobState, Role
from schemas.job_filter import ReleaseFilter
from schemas.jobs import Note
from worker.errors import ConflictError, NotFoundError, SecondPersonNeededError, unknown_value
from worker.ids import LARGEST
from worker.jobs import control
from worker.ledger import job_lists
from worker.records import Job
from worker.texts import Text, joined, mark, text
from worker.web.console.job_acts import count_jobs, say_released
from worker.web.console.render import PATH
from worker.web.console.view import LookingAsOperator, Operating, View

router = APIRouter(prefix=f"{PATH}/jobs", include_in_schema=False)

MOST = 200
"""Jobs that can be ticked at once: they stand in the address of the preview."""


@dataclass(frozen=True, slots=True)
class JobAct:
    """An act on ticked jobs."""

    label: Text
    role: Role
    fits: frozenset[JobState]
    """States in which a job can be acted on; any other is shown as left out."""
    done: str
    """The template of what is said after it, with the number of jobs."""
    run: Callable[..., Job] | None = None
    """On one job; None: all are released together."""


_UNFINISHED = frozenset({JobState.SCHEDULED, JobState.HELD, JobState.QUEUED, JobState.RUNNING, JobState.PAUSED})
ACTS = {
    "pause": JobAct(
        text("Pause"),
        Role.OPERATOR,
        frozenset({JobState.QUEUED, JobState.RUNNING}),
        mark("Paused: {jobs}."),
        control.pause,
    ),
    "resume": JobAct(
        text("Resume"), Role.OPERATOR, frozenset({JobState.PAUSED}), mark("Resumed: {jobs}."), control.resume
    ),
    "cancel": JobAct(text("Cancel"), Role.OPERATOR, _UNFINISHED, mark("Cancelled: {jobs}."), control.cancel),
    "release": JobAct(text("Release"), Role.APPROVER, frozenset({JobState.HELD}), mark("Released: {jobs}.")),
}
"""By the name in the address."""

Number = Annotated[int, Field(ge=1, le=LARGEST)]
Ticked = Annotated[list[Number] | None, Query(max_length=MOST)]


@router.get("/act")
def preview(view: LookingAsOperator, act: str = "", ids: Ticked = None) -> Response:
    """What an act would do to the ticked jobs, and which it leaves out. Role: operator; to release: approver."""
    return _page(view, act, ids or [])


@router.post("/act")
def do(
    view: Operating,
    act: Annotated[str, Form()] = "",
    ids: Annotated[list[Number] | None, Form(max_length=MOST)] = None,
    note: Annotated[Note, Form()] = "",
) -> Response:
    """Do it to each that still fits. Role: operator; to release: approver."""
    chosen = _choose(view, act)
    fitting = [job.id for job in _find(view, ids or []) if job.state in chosen.fits]
    if not fitting:
        return _page(view, act, ids or [], error=text("None of these jobs fits any more. Nothing was done."))
    if chosen.run is None:
        return _release(view, fitting, note)
    done, refusals = _do_each(view, chosen.run, fitting, note)
    said = [text(chosen.done, jobs=count_jobs(done))]
    if refusals:
        said += [text("Left as they are: {jobs}.", jobs=count_jobs(len(refusals))), refusals[0]]
    return view.go(f"{PATH}/jobs", joined(said), tone="warn" if refusals else "good")


def _do_each(view: View, run: Callable[..., Job], ids: Sequence[int], note: str) -> tuple[int, list[Text]]:
    """How many were done, and why the others were not."""
    done, refusals = 0, []
    for job_id in ids:
        try:
            job = run(
                view.database, organisation_id=view.organisation_id, job_id=job_id, actor=view.actor, note=note or None
            )
        except (ConflictError, NotFoundError) as refused:
            refusals.append(text("Job {job}: {why}.", job=job_id, why=str(refused)))
            continue
        if run is control.cancel and job.state is not JobState.CANCELLED:
            refusals.append(text("Job {job} had already ended.", job=job_id))
        else:
            done += 1
    return done, refusals


def _release(view: View, ids: list[int], note: str) -> Response:
    try:
        made = control.release_matching(
            view.database,
            organisation_id=view.organisation_id,
            wanted=ReleaseFilter(ids=ids),
            actor=view.actor,
            made_by=view.caller.made_by,
            note=note or None,
        )
    except SecondPersonNeededError as waits:
        said = text(
            "Nothing is released yet: approval {approval} waits for a second person.", approval=waits.approval_id
        )
        return view.go(f"{PATH}/jobs", said, tone="warn")
    return view.go(f"{PATH}/jobs", say_released(made), tone="warn" if made.own else "good")


def _choose(view: View, act: str) -> JobAct:
    if act not in ACTS:
        raise unknown_value("act", act, ACTS)
    view.caller.must_be(ACTS[act].role)
    return ACTS[act]


def _find(view: View, ids: Sequence[int]) -> list[Job]:
    """The organisation's jobs of these, by number."""
    with view.database.begin() as connection:
        found = job_lists.find_jobs(connection, sorted(set(ids)))
    return sorted((job for job in found if job.organisation_id == view.organisation_id), key=lambda job: job.id)


def _page(view: View, act: str, ids: Sequence[int], *, error: str = "") -> Response:
    chosen = _choose(view, act)
    found = _find(view, ids)
    fitting = [job for job in found if job.state in chosen.fits]
    own: set[int] = set()
    if chosen.run is None:
        asked = partial(control.is_own, view.database, organisation_id=view.organisation_id, who=view.caller.person)
        by_name = {name: asked(requested_by=name) for name in {job.requested_by for job in fitting}}
        own = {job.id for job in fitting if by_name[job.requested_by]}
    shown: dict[str, Any] = {
        "act": act,
        "chosen": chosen,
        "doing": [job for job in fitting if job.id not in own],
        "own": [job for job in fitting if job.id in own],
        "others": [job for job in found if job not in fitting],
    }
    return view.page("jobs_act.html", status=409 if error else 200, error=error, ticked=bool(ids), **shown)
