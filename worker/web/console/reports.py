"""Reports on pages: enrolments and outcomes as lists and as files. The whole filter is in the address of the page."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from schemas.catalogue import SEES_NAMES, Outcome, Reason, Source, Status
from schemas.reports import DURATION_BANDS, EnrolmentFilter, OutcomeFilter, StatusFilter
from worker.errors import InvalidInputError, NotFoundError
from worker.ids import next_cursor, parse_cursor, parse_pair_cursor
from worker.reports import lists
from worker.reports.filters import find_series_id, suggest_series
from worker.reports.formats import Format
from worker.search import find
from worker.texts import joined, text
from worker.validation_words import say_fault
from worker.web.api.reports import send_export
from worker.web.console.render import PATH
from worker.web.console.view import Looking, View
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

ROWS = 50
_REINSTATE_OUTCOMES = (
    Outcome.REINSTATED, Outcome.ENROLLED_AGAIN, Outcome.CHANGED_SINCE, Outcome.LEARNER_INACTIVE
)  # fmt: skip
CHOICES = {
    "statuses": list(Status),
    "outcomes": [outcome for outcome in Outcome if outcome not in _REINSTATE_OUTCOMES],
    "reasons": list(Reason),
    "sources": list(Source),
    "bands": [(band.value, text(bound.label)) for band, bound in DURATION_BANDS.items()],
}
_REPEATABLE = ("status", "exclude_status", "outcome")
_NO_CONDITIONS = ("cursor", "names", "compare")
"""In an address beside the conditions of the filter."""
_CODED = ("status", "exclude_status", "outcome", "reason", "source", "took")
_LABELS = {
    "exclude_status": text("Without status"),
    "standing": text("Only what the summary counts"),
    "took": text("Time it took"),
}
Filter = TypeVar("Filter", bound=StatusFilter)


class UnknownSeriesError(InvalidInputError):
    """No Series has this code."""


@router.get("")
def enrolments(view: Looking) -> Response:
    """Enrolments as they are now, newest first. Names and e-mail addresses: operator and above."""

    def read(wanted: EnrolmentFilter) -> tuple[Sequence[Any], str | None]:
        before = parse_cursor(view.request.query_params.get("cursor"))
        rows = lists.list_enrolments(
            view.database, view.organisation_id, wanted, before=before, limit=ROWS, names=view.may(SEES_NAMES)
        )
        return rows, next_cursor(rows, ROWS, "enrolment_id")

    return _list_page(view, "enrolments", EnrolmentFilter, read)


@router.get("/outcomes")
def outcomes(view: Looking) -> Response:
    """What jobs decided, newest job first. Names and e-mail addresses: operator and above."""

    def read(wanted: OutcomeFilter) -> tuple[Sequence[Any], str | None]:
        before = parse_pair_cursor(view.request.query_params.get("cursor"))
        rows = lists.list_outcomes(
            view.database, view.organisation_id, wanted, before=before, limit=ROWS, names=view.may(SEES_NAMES)
        )
        return rows, next_cursor(rows, ROWS, "job_id", "enrolment_id")

    return _list_page(view, "outcomes", OutcomeFilter, read)


@router.get("/series")
def pick_series(view: Looking, q: str = "") -> Response:
    """Series to filter by, found by parts of their code or title in any order."""
    q = q.strip()[: find.LONGEST]
    return view.page("reports_series.html", q=q, found=suggest(view, q) if q else [])


@router.get("/enrolments.{format}")
def export_enrolments(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """All enrolments that the filter finds, as a file. With names and e-mail addresses: operator and above."""
    wanted = read_filter(view, EnrolmentFilter)
    names = _with_names(view)
    return send_export(view.services, view.caller, view.request, wanted, "enrolments", format, names=names)


@router.get("/outcomes.{format}")
def export_outcomes(view: Looking, format: Format) -> Response:  # noqa: A002 - as the path names it
    """All outcomes that the filter finds, as a file. With names and e-mail addresses: operator and above."""
    wanted = read_filter(view, OutcomeFilter)
    names = _with_names(view)
    return send_export(view.services, view.caller, view.request, wanted, "outcomes", format, names=names)


def _with_names(view: View) -> bool:
    if view.request.query_params.get("names") != "true":
        return False
    view.caller.must_be(SEES_NAMES)
    return True


def filter_form(view: View, tab: str) -> dict[str, Any]:
    """What every tab shows: the filter as it was given, its choices, and the files that the same filter makes."""
    given: dict[str, list[str]] = {}
    for name, value in view.request.query_params.multi_items():
        if name not in ("cursor", "names") and value.strip():
            given.setdefault(name, []).append(value)
    return {
        "tab": tab,
        "given": given,
        "files": _files(tab, given),
        "files_with_names": _files(tab, given | {"names": ["true"]}) if view.may(SEES_NAMES) else [],
        "with_names": view.may(SEES_NAMES),
        "schedule": f"{PATH}/reports/schedules?{urlencode({'report': tab, **given}, doseq=True)}",
        "described": describe_filter(given),
        "made_at": datetime.now(UTC),
        **CHOICES,
        "error": "",
        "similar": [],
    }


def _files(tab: str, given: dict[str, list[str]]) -> list[tuple[Format, str]]:
    query = urlencode(given, doseq=True)
    return [(format_, f"{PATH}/reports/{tab}.{format_}" + (f"?{query}" if query else "")) for format_ in Format]


def describe_filter(given: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The conditions of a filter for a person, as they stand in an address or in a schedule."""
    return [
        (_LABELS.get(name) or word(name), joined((word(one) if name in _CODED else one for one in values), ", "))
        for name, values in given.items()
        if name not in _NO_CONDITIONS
    ]


def suggest(view: View, text: str) -> list[tuple[str, str]]:
    """Codes and titles of Series that have all words of a text, else those that have the text."""
    found = find.find_series(view.database, organisation_id=view.organisation_id, text=text)
    if found:
        return [(one.code, one.title) for one in found]
    return [(one.code, one.title) for one in suggest_series(view.database, view.organisation_id, text)]


def refusal_page(view: View, template: str, form: dict[str, Any], error: InvalidInputError) -> Response:
    """The form again, with what is wrong and, for an unknown Series, those that may be meant."""
    similar: Sequence[tuple[str, str]] = []
    if isinstance(error, UnknownSeriesError):
        similar = suggest(view, form["given"]["series"][0].strip())
    shown = form | {"error": str(error), "similar": similar, "rows": [], "figures": []}
    return view.page(template, status=422, **shown)


def read_filter(view: View, model: type[Filter]) -> Filter:
    """The filter in the address. A field that the form sent empty counts as left out.

    Raises:
        InvalidInputError: names the field that is wrong.
    """
    values: dict[str, Any] = {}
    for name, value in view.request.query_params.multi_items():
        if not value.strip() or name in _NO_CONDITIONS:
            continue
        if name in _REPEATABLE:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidInputError(text("{field}: give it only once", field=word(name)))
        else:
            values[name] = value if name == "series" else value.strip()  # a code may begin with a space
    if "series" in values:
        values["series_id"] = _series_id(view, values.pop("series"))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        said = dict.fromkeys(say_fault(word(fault["loc"][0]), fault) for fault in faults)
        raise InvalidInputError(joined(said, "; ")) from None


def _list_page(
    view: View,
    tab: str,
    model: type[Filter],
    read: Callable[[Filter], tuple[Sequence[Any], str | None]],
) -> Response:
    form = filter_form(view, tab)
    try:
        wanted = read_filter(view, model)
        rows, cursor = read(wanted)
    except InvalidInputError as error:
        return refusal_page(view, f"reports_{tab}.html", form, error)
    assert isinstance(wanted, EnrolmentFilter | OutcomeFilter)  # noqa: S101 - for the type checker
    counted = lists.count_rows(view.services.pools.reports, view.organisation_id, wanted)
    return view.page(f"reports_{tab}.html", **form, rows=rows, next_cursor=cursor, counted=counted)


def _series_id(view: View, code: str) -> int:
    if len(code) > 255 or not code.isprintable():
        raise InvalidInputError(text("Series: a code has at most 255 printable characters"))
    try:
        return find_series_id(view.database, view.organisation_id, code)
    except NotFoundError:
        raise UnknownSeriesError(text("Series: no Series has the code “{code}”.", code=code)) from None
