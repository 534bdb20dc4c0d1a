"""The Series library: Series, their enrolments, one enrolment and its withdrawal."""

from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from starlette.responses import Response

from schemas.catalogue import Reason, Source, Status
from schemas.jobs import JobRequest
from schemas.saved_views import ListName
from worker.dead_letters import decision_receipts
from worker.errors import InvalidInputError, NotFoundError
from worker.faults import is_passing
from worker.ids import next_cursor, parse_cursor
from worker.jobs import submit
from worker.ledger import enrolment_search, job_lists, owned, series_library, standing
from worker.ledger.active_learners import list_active_learners
from worker.ledger.enrolment_search import EnrolmentDetails, EnrolmentSearch
from worker.ledger.protections import find_last
from worker.ledger.series_library import CountedSeries
from worker.rules import ENDED, WITHDRAWN
from worker.texts import text
from worker.web.api.submit import validated
from worker.web.console import acted, saved_views
from worker.web.console.forms import parse_choice
from worker.web.console.render import PATH
from worker.web.console.times import parse_days
from worker.web.console.view import Looking, Operating, View
from worker.web.context import Cursor, RowId

ROWS = 50
MOST_TICKED = 500
"""Rows that can be ticked at once: they stand in the address of the plan."""

router = APIRouter(prefix=PATH, include_in_schema=False)


DONE = 5
"""Of what was done to an enrolment, how much its page shows; its receipt has all."""


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The fields of a search as a person typed them and as they are in the address of the page."""

    learner: str
    status: list[str]
    pathway_id: str
    enrolled_from: str
    enrolled_to: str

    @property
    def is_narrowed(self) -> bool:
        return any((self.learner, self.status, self.pathway_id, self.enrolled_from, self.enrolled_to))


@router.get("/series")
def series(
    view: Looking,
    q: str = "",
    sort: Literal["last", ""] = "",
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """The Series library."""
    with view.database.begin() as connection:
        found = series_library.list_series(
            connection,
            view.organisation_id,
            containing=_clean(q),
            after=cursor and cursor.replace("\0", ""),
            limit=ROWS,
            last_first=bool(sort),
        )
    found = _counted(view, found)
    return view.page("series_library.html", items=found, q=q, sort=sort, next_cursor=next_cursor(found, ROWS, "code"))


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
    unticked: str | None = None,
) -> Response:
    """The enrolments of one Series, with a search. From here they can be withdrawn in bulk."""
    form = SearchForm(
        _clean_learner(learner), [_clean(one) for one in status or []], pathway_id, enrolled_from, enrolled_to
    )
    with view.database.begin() as connection:
        found = series_library.find_series(connection, view.organisation_id, series_id)
        if found is None:
            raise NotFoundError(text("there is no Series {series} in this organisation", series=series_id))
        of_pathways = owned.count_in_series(connection, view.organisation_id, series_id)
        ids = standing.list_jobs_of_series(connection, view.organisation_id, series_id)
        withdrew = [
            job for job in job_lists.find_jobs(connection, ids) if job.outcomes.get("withdrawn", 0) > job.reinstated
        ]
    return _list_page(
        view, "series.html", form, parse_cursor(cursor), unticked=unticked, series=_counted(view, [found])[0],
        withdrew=withdrew, of_pathways=of_pathways,
    )  # fmt: skip


def _counted(view: View, found: list[CountedSeries]) -> list[CountedSeries]:
    """The Series with large ones counted as well, unless that takes too long."""
    try:
        with view.services.pools.reports.begin() as connection:
            return series_library.count_all(connection, view.organisation_id, found)
    except Exception as error:
        if not is_passing(error):
            raise
        return found


@router.get("/enrolments")
def enrolments_of_learner(
    view: Looking, learner: str = "", cursor: Cursor = None, unticked: str | None = None
) -> Response:
    """All enrolments, in every Series, of the learners that the search finds. What names one exactly leads to them."""
    form = SearchForm(_clean_learner(learner), [], "", "", "")
    if not form.learner:
        shelf = saved_views.shelf(view, ListName.LEARNERS, {})
        with view.database.begin() as connection:
            found, following = list_active_learners(
                connection, view.organisation_id, after=cursor and _storable(cursor), limit=ROWS
            )
        return view.page(
            "learners.html", form=form, items=[], active=found, next_cursor=following, more_learners=False, shelf=shelf
        )
    if cursor is None and unticked is None:
        with view.database.begin() as connection:
            exact = enrolment_search.find_exactly(connection, view.organisation_id, form.learner)
        if exact is not None:
            return view.go(f"{PATH}/people?{urlencode({'learner': exact})}")
    return _list_page(view, "learners.html", form, parse_cursor(cursor), unticked=unticked)


@router.get("/enrolments/{enrolment_id}")
def enrolment(view: Looking, enrolment_id: RowId) -> Response:
    """One enrolment, and whether and how it can be withdrawn."""
    return _enrolment_page(view, enrolment_id)


@router.post("/enrolments/{enrolment_id}/withdraw")
def withdraw(
    view: Operating,
    enrolment_id: RowId,
    reason: Annotated[str, Form()] = "",
    note: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
) -> Response:
    """Withdraw one enrolment. Usually it is decided before the page is shown again."""
    with view.database.begin() as connection:
        found = enrolment_search.find_enrolment(connection, view.organisation_id, enrolment_id)
    if found is None:
        raise NotFoundError(text("there is no enrolment {enrolment} in this organisation", enrolment=enrolment_id))
    if not reason:
        return _enrolment_page(view, enrolment_id, error=text("Choose a reason."), status=422)
    wanted = validated(
        JobRequest,
        {"enrolment_ids": [enrolment_id], "reason": reason, "source": source_of(reason), "note": note.strip() or None},
    )
    job = submit.submit(view.database, view.requester(key), wanted, chunk_size=view.settings.chunk_size).job
    return acted.go(view, f"{PATH}/enrolments/{enrolment_id}", job)


def source_of(reason: str) -> str:
    """The source of a request from a page: to withdraw an enrolment made in error is a correction."""
    return Source.CORRECTION if reason == Reason.ENROLMENT_ERROR else Source.ADMIN


def _list_page(
    view: View, template: str, form: SearchForm, before: int | None, *, unticked: str | None, **shown: Any
) -> Response:
    """`unticked`: the reason that was chosen for ticked rows, of which there were none."""
    series_id = shown["series"].id if "series" in shown else None
    error, items, more_learners, ids = "", list[EnrolmentDetails](), False, None
    with view.database.begin() as connection:
        pathways = series_library.list_pathways(connection, view.organisation_id)
        try:
            after, until = parse_days(form.enrolled_from, form.enrolled_to, view.zone)
            pathway = parse_choice(form.pathway_id, "pathway")
            if form.learner:
                ids, more_learners = enrolment_search.find_learners(connection, view.organisation_id, form.learner)
            search = EnrolmentSearch(series_id, ids, tuple(form.status), pathway, after, until)
            if ids is None or ids:
                items = enrolment_search.list_enrolments(
                    connection, view.organisation_id, search, before=before, limit=ROWS
                )
        except InvalidInputError as refused:
            error = str(refused)
    conditions = asdict(form) if series_id is not None else {"learner": form.learner}
    name = ListName.ENROLMENTS if series_id is not None else ListName.LEARNERS
    shelf = saved_views.shelf(view, name, {**conditions, "series_id": series_id})
    return view.page(
        template, shelf=shelf, status=422 if error or unticked is not None else 200,
        form=form, unticked=unticked, items=items, pathways=pathways, error=error,
        more_learners=more_learners, learner_ids=ids or [], statuses=list(Status), reasons=list(Reason),
        most_learners=enrolment_search.MOST_LEARNERS, most_ticked=MOST_TICKED,
        next_cursor=next_cursor(items, ROWS), active=[], **shown,
    )  # fmt: skip


def _enrolment_page(view: View, enrolment_id: int, *, error: str = "", status: int = 200) -> Response:
    with view.database.begin() as connection:
        found = enrolment_search.find_enrolment(connection, view.organisation_id, enrolment_id)
        if found is None:
            raise NotFoundError(text("there is no enrolment {enrolment} in this organisation", enrolment=enrolment_id))
        job_id = enrolment_search.find_job_that_withdrew(connection, view.organisation_id, enrolment_id)
        undone_by = standing.find_jobs(connection, view.organisation_id, [enrolment_id]).get(enrolment_id)
        letters = enrolment_search.list_open_letters(connection, view.organisation_id, enrolment_id)
        protection = find_last(connection, view.organisation_id, enrolment_id)
        request = (
            enrolment_search.find_live_request(
                connection, view.organisation_id, [enrolment_id], learner=found.learner_external_id
            )
            if found.is_active
            else None
        )
    explained = decision_receipts.explain(
        view.database, organisation_id=view.organisation_id, enrolment_id=enrolment_id
    )
    done = sorted(
        (
            (one.decided_at, one)
            for one in explained.decisions
            if one.decided_at is not None and one.outcome is not None
        ),
        key=itemgetter(0),
        reverse=True,
    )
    return view.page(
        "enrolment.html", status=status, done=[one for _, one in done[:DONE]],
        item=found, letters=letters, error=error, reasons=list(Reason),
        job_id=job_id if found.status == WITHDRAWN else None, request_job=request, ended=found.status in ENDED,
        protection=protection, can_take_back=found.status == WITHDRAWN and undone_by == job_id,
    )  # fmt: skip


def _clean(given: str) -> str:
    """Text from a search field without what PostgreSQL cannot store, cut to 200 characters."""
    return _storable(given).strip()[:200]


def _clean_learner(given: str) -> str:
    """The same, with the spaces around it, which can belong to an external id; empty where there is nothing else."""
    found = _storable(given)[:255]
    return found if found.strip() else ""


def _storable(given: str) -> str:
    return given.replace("\0", "").encode("utf-8", "ignore").decode()
