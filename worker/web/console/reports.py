"""Reports: enrolments and outcomes as lists and as files, over one filter that lives in the address."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from schemas.catalogue import Outcome, Reason, Source
from schemas.reports import EnrolmentFilter, OutcomeFilter, StatusFilter
from worker.errors import InvalidInputError, NotFoundError
from worker.ids import parse_cursor
from worker.reports import lists
from worker.reports.exports import Format
from worker.rules import ACTIVE, ENDED, WITHDRAWN
from worker.web.api.reports import exported, next_place, place
from worker.web.console.render import PATH
from worker.web.console.view import Looking, View
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

ROWS = 50
_STATUSES = (*ACTIVE, *ENDED, WITHDRAWN)
_OF_AN_UNDO = (Outcome.REINSTATED, Outcome.ENROLLED_AGAIN, Outcome.CHANGED_SINCE, Outcome.LEARNER_INACTIVE)
_OUTCOMES = [item for item in Outcome if item not in _OF_AN_UNDO]
_CHOICES = {"statuses": _STATUSES, "outcomes": _OUTCOMES, "reasons": list(Reason), "sources": list(Source)}
Filter = TypeVar("Filter", bound=StatusFilter)


class NoSeriesError(InvalidInputError):
    """No Series has this code."""


@router.get("")
def enrolments(view: Looking) -> Response:
    """Enrolments as they are now, newest first."""

    def read(wanted: EnrolmentFilter) -> tuple[Sequence[Any], str | None]:
        cursor = view.request.query_params.get("cursor")
        rows = lists.enrolments(view.database, view.organisation_id, wanted, before=parse_cursor(cursor), limit=ROWS)
        return rows, str(rows[-1].enrolment_id) if len(rows) == ROWS else None

    return _listing(view, "enrolments", EnrolmentFilter, read)


@router.get("/outcomes")
def outcomes(view: Looking) -> Response:
    """What jobs decided, newest job first."""

    def read(wanted: OutcomeFilter) -> tuple[Sequence[Any], str | None]:
        cursor = view.request.query_params.get("cursor")
        rows = lists.outcomes(view.database, view.organisation_id, wanted, before=place(cursor), limit=ROWS)
        return rows, next_place(rows, ROWS)

    return _listing(view, "outcomes", OutcomeFilter, read)


@router.get("/enrolments.{format}")
def export_enrolments(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """The same enrolments as a file, all of them."""
    wanted = wanted_of(view, EnrolmentFilter)
    return exported(view.services, view.caller, view.request, wanted, "enrolments", format)


@router.get("/outcomes.{format}")
def export_outcomes(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """The same outcomes as a file, all of them."""
    wanted = wanted_of(view, OutcomeFilter)
    return exported(view.services, view.caller, view.request, wanted, "outcomes", format)


def _listing(
    view: View, tab: str, model: type[Filter], read: Callable[[Filter], tuple[Sequence[Any], str | None]]
) -> Response:
    page = page_of(view, tab)
    try:
        rows, cursor = read(wanted_of(view, model))
    except InvalidInputError as error:
        return refused(view, f"reports_{tab}.html", page, error)
    return view.page(f"reports_{tab}.html", **page, rows=rows, next_cursor=cursor)


def page_of(view: View, tab: str) -> dict[str, Any]:
    """What every tab shows: the filter as it was given, and the files with the same filter."""
    given: dict[str, list[str]] = {}
    for name, value in view.request.query_params.multi_items():
        if name != "cursor" and value.strip():
            given.setdefault(name, []).append(value)
    query = urlencode(given, doseq=True)
    files = [(format_, f"{PATH}/reports/{tab}.{format_}" + (f"?{query}" if query else "")) for format_ in Format]
    return {"tab": tab, "given": given, "files": files, **_CHOICES, "error": "", "similar": []}


def refused(view: View, template: str, page: dict[str, Any], error: InvalidInputError) -> Response:
    """The form again, with what is wrong and, of a Series, what there is."""
    similar: Sequence[Any] = []
    if isinstance(error, NoSeriesError):
        similar = lists.series_like(view.database, view.organisation_id, page["given"]["series"][0].strip())
    shown = page | {"error": str(error), "similar": similar, "rows": [], "figures": []}
    return view.page(template, status=422, **shown)


def wanted_of(view: View, model: type[Filter]) -> Filter:
    """The filter of this address; fields that a form sent empty are as if left out.

    Raises:
        InvalidInputError: names the field that cannot be.
    """
    values: dict[str, Any] = {}
    for name, value in view.request.query_params.multi_items():
        if not value.strip() or name == "cursor":
            continue
        if name in ("status", "exclude_status", "outcome"):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidInputError(f"{name}: once only")
        else:
            values[name] = value.strip()
    if "series" in values:
        values["series_id"] = _series(view, values.pop("series"))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        told = dict.fromkeys(f"{word(item['loc'][0])}: {item['msg'].removeprefix('Value error, ')}" for item in faults)
        raise InvalidInputError("; ".join(told)) from None


def _series(view: View, code: str) -> int:
    if len(code) > 255 or not code.isprintable():
        raise InvalidInputError("Series: a code has at most 255 printable characters")
    try:
        return lists.series_of_code(view.database, view.organisation_id, code)
    except NotFoundError:
        raise NoSeriesError(f"Series: none has the code “{code}”.") from None
