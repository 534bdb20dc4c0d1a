"""Reports on pages: enrolments and outcomes as lists and as files. The whole filter is in the address of the page."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from schemas.catalogue import Outcome, Reason, Source, Status
from schemas.reports import EnrolmentFilter, OutcomeFilter, StatusFilter
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError, is_passing
from worker.ids import next_cursor, parse_cursor, parse_pair_cursor
from worker.ledger import series_library
from worker.ledger.outcomes import find_names
from worker.reports import lists
from worker.reports.filters import find_series_id, suggest_series
from worker.reports.formats import Format
from worker.web.api.reports import send_export
from worker.web.console.render import PATH
from worker.web.console.view import Looking, View
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

ROWS = 50
_REINSTATE_OUTCOMES = (
    Outcome.REINSTATED, Outcome.ENROLLED_AGAIN, Outcome.CHANGED_SINCE, Outcome.LEARNER_INACTIVE
)  # fmt: skip
_CHOICES = {
    "statuses": list(Status),
    "outcomes": [outcome for outcome in Outcome if outcome not in _REINSTATE_OUTCOMES],
    "reasons": list(Reason),
    "sources": list(Source),
}
_OFFERED = 200
"""Series that the field offers; a code of any other can be typed, or a part of a title."""
_REPEATABLE = ("status", "exclude_status", "outcome")
Filter = TypeVar("Filter", bound=StatusFilter)


class UnknownSeriesError(InvalidInputError):
    """No Series has this code."""


@router.get("")
def enrolments(view: Looking) -> Response:
    """Enrolments as they are now, newest first."""

    def read(wanted: EnrolmentFilter) -> tuple[Sequence[Any], str | None]:
        before = parse_cursor(view.request.query_params.get("cursor"))
        rows = lists.list_enrolments(view.database, view.organisation_id, wanted, before=before, limit=ROWS)
        return rows, next_cursor(rows, ROWS, "enrolment_id")

    return _list_page(view, "enrolments", EnrolmentFilter, read, lists.count_enrolments)


@router.get("/outcomes")
def outcomes(view: Looking) -> Response:
    """What jobs decided, newest job first."""

    def read(wanted: OutcomeFilter) -> tuple[Sequence[Any], str | None]:
        before = parse_pair_cursor(view.request.query_params.get("cursor"))
        rows = lists.list_outcomes(view.database, view.organisation_id, wanted, before=before, limit=ROWS)
        return rows, next_cursor(rows, ROWS, "job_id", "enrolment_id")

    return _list_page(view, "outcomes", OutcomeFilter, read, lists.count_outcomes)


@router.get("/enrolments.{format}")
def export_enrolments(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """All enrolments that the filter finds, as a file."""
    wanted = read_filter(view, EnrolmentFilter)
    return send_export(view.services, view.caller, view.request, wanted, "enrolments", format)


@router.get("/outcomes.{format}")
def export_outcomes(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """All outcomes that the filter finds, as a file."""
    wanted = read_filter(view, OutcomeFilter)
    return send_export(view.services, view.caller, view.request, wanted, "outcomes", format)


def filter_form(view: View, tab: str) -> dict[str, Any]:
    """What every tab shows: the filter as it was given, its choices, and the files that the same filter makes."""
    given: dict[str, list[str]] = {}
    for name, value in view.request.query_params.multi_items():
        if name != "cursor" and value.strip():
            given.setdefault(name, []).append(value)
    query = urlencode(given, doseq=True)
    files = [(format_, f"{PATH}/reports/{tab}.{format_}" + (f"?{query}" if query else "")) for format_ in Format]
    with view.database.begin() as connection:
        series = series_library.list_codes(connection, view.organisation_id, limit=_OFFERED)
    return {"tab": tab, "given": given, "files": files, "series": series, **_CHOICES, "error": "", "similar": []}


def refusal_page(view: View, template: str, form: dict[str, Any], error: InvalidInputError) -> Response:
    """The form again, with what is wrong and, for an unknown Series, those that may be meant."""
    similar: Sequence[Any] = []
    if isinstance(error, UnknownSeriesError):
        similar = suggest_series(view.database, view.organisation_id, form["given"]["series"][0].strip())
    shown = form | {"error": str(error), "similar": similar, "rows": [], "figures": []}
    return view.page(template, status=422, **shown)


def read_filter(view: View, model: type[Filter]) -> Filter:
    """The filter in the address. A field that the form sent empty counts as left out.

    Raises:
        InvalidInputError: names the field that is wrong.
    """
    values: dict[str, Any] = {}
    for name, value in view.request.query_params.multi_items():
        if not value.strip() or name == "cursor":
            continue
        if name in _REPEATABLE:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidInputError(f"{word(name)}: give it only once")
        else:
            values[name] = value if name == "series" else value.strip()  # a code may begin with a space
    if "series" in values:
        values["series_id"] = _series_id(view, values.pop("series"))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        sentences = [f"{word(fault['loc'][0])}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults]
        raise InvalidInputError("; ".join(dict.fromkeys(sentences))) from None


def _list_page(
    view: View,
    tab: str,
    model: type[Filter],
    read: Callable[[Filter], tuple[Sequence[Any], str | None]],
    count: Callable[[Database, int, Filter], int],
) -> Response:
    form = filter_form(view, tab)
    try:
        wanted = read_filter(view, model)
        rows, cursor = read(wanted)
    except InvalidInputError as error:
        return refusal_page(view, f"reports_{tab}.html", form, error)
    with view.database.begin() as connection:
        names = find_names(connection, view.organisation_id, [row.enrolment_id for row in rows])
    counted = _count(view, wanted, count)
    return view.page(
        f"reports_{tab}.html", **form, rows=rows, next_cursor=cursor, names=names, counted=counted,
        most=lists.COUNTED_AT_MOST,
    )  # fmt: skip


def _count(view: View, wanted: Filter, count: Callable[[Database, int, Filter], int]) -> int | None:
    """How many rows the filter finds; None if that takes too long."""
    try:
        return count(view.services.pools.reports, view.organisation_id, wanted)
    except Exception as error:
        if not is_passing(error):
            raise
        return None


def _series_id(view: View, code: str) -> int:
    if len(code) > 255 or not code.isprintable():
        raise InvalidInputError("Series: a code has at most 255 printable characters")
    try:
        return find_series_id(view.database, view.organisation_id, code)
    except NotFoundError:
        raise UnknownSeriesError(f"Series: no Series has the code “{code}”.") from None
