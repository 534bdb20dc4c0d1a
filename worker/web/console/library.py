"""The Series library, the enrolments in it, one enrolment and its withdrawal: the administrators' way."""

import threading
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query
from starlette.responses import Response

from schemas.catalogue import Reason, Source
from schemas.jobs import JobRequest
from worker.errors import InvalidInputError, NotFoundError, is_passing
from worker.ids import parse_cursor
from worker.jobs import submit
from worker.jobs.show import show
from worker.ledger import series_library
from worker.ledger.series_library import Enrolment, Wanted
from worker.records import Job
from worker.rules import ACTIVE, ENDED, WITHDRAWN
from worker.web.api.submit import validated
from worker.web.console.forms import parse_choice
from worker.web.console.render import PATH
from worker.web.console.times import parse_days
from worker.web.console.view import Looking, Submitting, View
from worker.web.context import Cursor, RowId

ROWS = 50
STATUSES = (*ACTIVE, *ENDED, WITHDRAWN)
_SHOWN_AT_ONCE = 2.0
"""Seconds in which a single withdrawal is usually done; a longer one is on its way, and the page says so."""
_waiting = threading.BoundedSemaphore(8)
"""Those who wait for that hold a thread each, of the few that also answer webhooks."""

router = APIRouter(prefix=PATH, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """The filter of a list as its form has it: what people type, as it stands in the address."""

    learner: str
    status: list[str]
    pathway_id: str
    enrolled_from: str
    enrolled_to: str
    error: str = ""

    @property
    def is_narrowed(self) -> bool:
        return any((self.learner, self.status, self.pathway_id, self.enrolled_from, self.enrolled_to))


@router.get("/series")
def series(view: Looking, q: str = "", cursor: Annotated[str | None, Query(max_length=400)] = None) -> Response:
    """The Series library."""
    with view.database.begin() as connection:
        found = series_library.list_series(
            connection,
            view.organisation_id,
            containing=_typed(q),
            after=cursor and cursor.replace("\0", ""),
            limit=ROWS,
        )
    more = found[-1].code if len(found) == ROWS else None
    return view.page("series_library.html", items=found, q=q, next_cursor=more)


@router.get("/series/{series_id}")
def enrolments_of_series(
    view: Looking,
    series_id: RowId,
    learner: str = "",
    status: Annotated[list[str] | None, Query()] = None,
    pathway_id: str = "",
    enrolled_from: str = "",
    enrolled_to: str = "",
    cursor: Cursor = None,
) -> Response:
    """The enrolments of one Series, searched and filtered; from here they are withdrawn in bulk."""
    asked = Asked(_typed(learner), [_typed(one) for one in status or []], pathway_id, enrolled_from, enrolled_to)
    with view.database.begin() as connection:
        found = series_library.series(connection, view.organisation_id, series_id)
    if found is None:
        raise NotFoundError(f"there is no Series {series_id} in this organisation")
    return _list(view, "series.html", asked, parse_cursor(cursor), series=found)


@router.get("/enrolments")
def enrolments_of_learner(view: Looking, learner: str = "", cursor: Cursor = None) -> Response:
    """All enrolments of the learners who are meant, in every Series."""
    asked = Asked(_typed(learner), [], "", "", "")
    if not asked.learner:
        return view.page("learners.html", asked=asked, items=[], pathways=[], next_cursor=None, more_learners=False)
    return _list(view, "learners.html", asked, parse_cursor(cursor))


@router.get("/enrolments/{enrolment_id}")
def enrolment(view: Looking, enrolment_id: RowId) -> Response:
    """One enrolment, and whether and how it can be withdrawn."""
    return _enrolment(view, enrolment_id)


@router.post("/enrolments/{enrolment_id}/withdraw")
def withdraw(
    view: Submitting,
    enrolment_id: RowId,
    reason: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
) -> Response:
    """Withdraw one enrolment; usually it has happened when the page comes back."""
    with view.database.begin() as connection:
        found = series_library.enrolment(connection, view.organisation_id, enrolment_id)
    if found is None:
        raise NotFoundError(f"there is no enrolment {enrolment_id} in this organisation")
    if not reason:
        return _enrolment(view, enrolment_id, error="Choose the reason.", status=422)
    wanted = validated(
        JobRequest,
        {"enrolment_ids": [enrolment_id], "reason": reason, "source": source_of(reason), "note": note.strip() or None},
    )
    job = submit.submit(view.database, view.requester(key), wanted, chunk_size=view.settings.chunk_size).job
    job = _awaited(view, job)
    return view.go(f"{PATH}/enrolments/{enrolment_id}", _said(job))


def source_of(reason: str) -> str:
    """Where a request on a page comes from: taking an error back is a correction."""
    return Source.CORRECTION if reason == Reason.ENROLMENT_ERROR else Source.ADMIN


def _list(view: View, template: str, asked: Asked, at: int | None, **shown: Any) -> Response:
    series_id = shown["series"].id if "series" in shown else None
    error, items, more_learners, ids = "", list[Enrolment](), False, None
    with view.database.begin() as connection:
        pathways = series_library.pathways(connection, view.organisation_id)
        try:
            after, until = parse_days(asked.enrolled_from, asked.enrolled_to, view.zone)
            pathway = parse_choice(asked.pathway_id, "pathway")
            if asked.learner:
                ids, more_learners = series_library.learners(connection, view.organisation_id, asked.learner)
            wanted = Wanted(series_id, ids, tuple(asked.status), pathway, after, until)
            if ids is None or ids:
                items = series_library.enrolments(connection, view.organisation_id, wanted, before=at, limit=ROWS)
        except InvalidInputError as refused:
            error = str(refused)
    return view.page(
        template, status=422 if error else 200, asked=asked, items=items, pathways=pathways, error=error,
        more_learners=more_learners, learner_ids=ids or [], statuses=STATUSES,
        most_learners=series_library.MOST_LEARNERS,
        next_cursor=str(items[-1].id) if len(items) == ROWS else None, **shown,
    )  # fmt: skip


def _enrolment(view: View, enrolment_id: int, *, error: str = "", status: int = 200) -> Response:
    with view.database.begin() as connection:
        found = series_library.enrolment(connection, view.organisation_id, enrolment_id)
        if found is None:
            raise NotFoundError(f"there is no enrolment {enrolment_id} in this organisation")
        job_id = series_library.withdrawn_by_job(connection, view.organisation_id, enrolment_id)
        letters = series_library.open_letters(connection, view.organisation_id, enrolment_id)
    return view.page(
        "enrolment.html", status=status, item=found, letters=letters, error=error, reasons=list(Reason),
        job_id=job_id if found.status == WITHDRAWN else None, ended=found.status in ENDED,
    )  # fmt: skip


def _awaited(view: View, job: Job) -> Job:
    """The job once it has ended, or as it is when patience does."""
    if not _waiting.acquire(blocking=False):
        return job
    try:
        deadline = time.monotonic() + _SHOWN_AT_ONCE
        while job.finished_at is None and job.state not in ("held", "paused") and time.monotonic() < deadline:
            time.sleep(0.03)
            job = show(view.database, organisation_id=view.organisation_id, job_id=job.id)
    except Exception as error:
        if not is_passing(error):  # else the job is kept all the same, and nobody may be told otherwise
            raise
    finally:
        _waiting.release()
    return job


def _said(job: Job) -> str:
    if job.held_why:
        return f"Job {job.id} is held: {job.held_why}"
    if job.finished_at is None:
        return f"Accepted as job {job.id}; it is on its way."
    (outcome,) = job.outcomes or ("cancelled",)
    told = {
        "withdrawn": "Withdrawn.",
        "already_withdrawn": "It had been withdrawn already; nothing was changed.",
        "enrolment_ended": "It has ended meanwhile; it was not touched.",
        "pathway_owned": "A Learning Pathway owns it; it was not withdrawn, and support has a letter.",
    }
    return told.get(outcome, f"It was not withdrawn; job {job.id} says why.")


def _typed(given: str) -> str:
    """Text from a search box that the database takes."""
    return given.replace("\0", "").encode("utf-8", "ignore").decode().strip()[:200]
