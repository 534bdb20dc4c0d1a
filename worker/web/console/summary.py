"""The summary page: figures and charts of a period, and under each chart its figures as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import Response

from schemas.catalogue import Reason
from schemas.reports import DURATION_BANDS, LETTER_AGES, EnrolmentFilter, Summary
from worker.errors import InvalidInputError
from worker.reports.summary import summarise
from worker.web.console import charts
from worker.web.console.render import PATH, span
from worker.web.console.reports import filter_form, read_filter, refusal_page
from worker.web.console.view import Looking, View
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

WEEKS = 12
"""Weeks that are shown by default, the current one included."""
MOST_WEEKS = 54


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table. Where there are no figures, a sentence takes its place."""

    title: str
    svg: Markup | None
    empty: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[int, str]]]]
    """Each with its figures, and the address of the list behind each; empty: there is none."""
    legend: Sequence[str] = ()


@router.get("/summary")
def summary(view: Looking) -> Response:
    """What happened to the requests of a period."""
    form = filter_form(view, "summary")
    try:
        wanted = _from_default(read_filter(view, EnrolmentFilter))
        read = view.services.pools.reader.read(lambda database: summarise(database, view.organisation_id, wanted))
        found = read.found
        weeks = _weeks(found)
    except InvalidInputError as error:
        return refusal_page(view, "reports_summary.html", form, error)
    if found.withdrawn_from is not None:
        form["given"].setdefault("withdrawn_from", [found.withdrawn_from.astimezone(UTC).date().isoformat()])
    drawn = [_withdrawals(found, weeks, view), _durations(found), _refusals(found, view), _open_letters(found)]
    return view.page("reports_summary.html", **form, figures=_figures(found), charts=drawn, lag=read.lag)


def _figures(found: Summary) -> list[tuple[str, str, str]]:
    """Each figure with its label and its link."""
    took = found.seconds_to_withdrawal
    return [
        (f"{took.count:,}", "withdrawn", ""),
        (f"{sum(row.count for row in found.refused):,}", "refused", ""),
        (_length(took.p50), "half took at most", ""),
        (_length(took.p99), "99 of 100 took at most", ""),
        (f"{sum(row.count for row in found.open_letters):,}", "open dead letters now", f"{PATH}/dead-letters"),
    ]


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else span(seconds)


def _from_default(wanted: EnrolmentFilter) -> EnrolmentFilter:
    """The filter with a start: by default the Monday (UTC) with which the last twelve weeks start."""
    if wanted.withdrawn_from is not None:
        return wanted
    last = wanted.withdrawn_to or datetime.now(UTC)
    try:
        begin = _monday(last) - timedelta(weeks=WEEKS - 1)
    except OverflowError:
        raise InvalidInputError("Withdrawn to: that date is too far away") from None
    return wanted.model_copy(update={"withdrawn_from": datetime(begin.year, begin.month, begin.day, tzinfo=UTC)})


def _weeks(found: Summary) -> list[date]:
    """Every week from the first to the last, also those without a withdrawal."""
    now = datetime.now(UTC)
    first, last = _monday(found.withdrawn_from or now), _monday(min(found.withdrawn_to or now, now))
    count = (last - first).days // 7 + 1
    if count > MOST_WEEKS:
        raise InvalidInputError(f"Withdrawn from: the charts show at most {MOST_WEEKS} weeks. Choose a later day.")
    return [first + timedelta(weeks=n) for n in range(count)]


def _monday(at: date) -> date:
    day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
    return day - timedelta(days=day.weekday())


def _list_behind(view: View, outcome: str, begin: datetime | None, end: datetime | None, **more: str) -> str:
    """The list of outcomes behind a figure, by the same filter."""
    kept = [(name, value) for name, value in view.request.query_params.multi_items() if name in _KEPT and value]
    bounds = (("decided_from", begin), ("decided_to", end))
    wanted = {"outcome": outcome, **{name: f"{at.astimezone(UTC):{_RFC3339}}" for name, at in bounds if at}, **more}
    return f"{PATH}/reports/outcomes?{urlencode([*(one for one in kept if one[0] not in wanted), *wanted.items()])}"


_RFC3339 = "%Y-%m-%dT%H:%M:%SZ"
_KEPT = ("series", "source", "reason", "status", "exclude_status")


def _withdrawals(found: Summary, weeks: list[date], view: View) -> Chart:
    counts = {reason.value: dict.fromkeys(weeks, 0) for reason in Reason}
    for row in found.withdrawals:
        counts.setdefault(row.reason, dict.fromkeys(weeks, 0))[row.week] = row.count
    by_reason = {word(reason): list(by_week.values()) for reason, by_week in counts.items()}
    sums = {reason: sum(by_week) for reason, by_week in by_reason.items()}
    names = [f"{week:%-d %b}" for week in weeks]
    return Chart(
        "Withdrawals by reason and week",
        charts.stacked_columns(names, by_reason, alt=_describe("Withdrawals by week and reason", sums))
        if any(sums.values())
        else None,
        "Nothing was withdrawn in these weeks.",
        ("Week from", *by_reason),
        [
            (
                f"{week:%-d %b %Y}",
                [
                    (by_week[week], _list_behind(view, "withdrawn", *_bounds(found, week), reason=reason))
                    for reason, by_week in counts.items()
                ],
            )
            for week in weeks
        ],
        list(by_reason),
    )


def _bounds(found: Summary, week: date) -> tuple[datetime, datetime]:
    """The part of a week that the summary is about."""
    begin = datetime(week.year, week.month, week.day, tzinfo=UTC)
    end = begin + timedelta(weeks=1)
    return max(begin, found.withdrawn_from or begin), min(end, found.withdrawn_to or end)


def _durations(found: Summary) -> Chart:
    counts = {DURATION_BANDS[row.band].label: row.count for row in found.seconds_to_withdrawal.bands}
    return _bars("Time from request to withdrawal", "Nothing was withdrawn in these weeks.", "Time", counts)


def _refusals(found: Summary, view: View) -> Chart:
    rows = sorted(found.refused, key=lambda row: -row.count)
    counts = {word(row.cause): row.count for row in rows}
    period = found.withdrawn_from, found.withdrawn_to
    hrefs = {word(row.cause): _list_behind(view, row.cause, *period) for row in rows}
    return _bars("Refused, by cause", "Nothing was refused in these weeks.", "Cause", counts, hrefs)


def _open_letters(found: Summary) -> Chart:
    counts = {bound.label: 0 for bound in LETTER_AGES.values()}
    for row in found.open_letters:
        counts[LETTER_AGES[row.age].label] += row.count
    return _bars("Open dead letters by age, now", "No dead letter is open.", "Age", counts)


def _bars(
    title: str, empty: str, column: str, counts: Mapping[str, int], hrefs: Mapping[str, str] | None = None
) -> Chart:
    behind = hrefs or {}
    svg = charts.horizontal_bars(counts, alt=_describe(title, counts)) if any(counts.values()) else None
    return Chart(
        title,
        svg,
        empty,
        (column, "Count"),
        [(name, [(count, behind.get(name, ""))]) for name, count in counts.items()],
    )


def _describe(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) + "."
