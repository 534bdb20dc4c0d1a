"""The summary page: figures and charts of a period, and under each chart its figures as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

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
from worker.web.console.view import Looking
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
    rows: Sequence[tuple[str, Sequence[int]]]
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
    drawn = [_withdrawals(found, weeks), _durations(found), _refusals(found), _open_letters(found)]
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


def _withdrawals(found: Summary, weeks: list[date]) -> Chart:
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
        [(f"{week:%-d %b %Y}", [by_week[n] for by_week in by_reason.values()]) for n, week in enumerate(weeks)],
        list(by_reason),
    )


def _durations(found: Summary) -> Chart:
    counts = {DURATION_BANDS[row.band].label: row.count for row in found.seconds_to_withdrawal.bands}
    return _bars("Time from request to withdrawal", "Nothing was withdrawn in these weeks.", "Time", counts)


def _refusals(found: Summary) -> Chart:
    counts = {word(row.cause): row.count for row in sorted(found.refused, key=lambda row: -row.count)}
    return _bars("Refused, by cause", "Nothing was refused in these weeks.", "Cause", counts)


def _open_letters(found: Summary) -> Chart:
    counts = {bound.label: 0 for bound in LETTER_AGES.values()}
    for row in found.open_letters:
        counts[LETTER_AGES[row.age].label] += row.count
    return _bars("Open dead letters by age, now", "No dead letter is open.", "Age", counts)


def _bars(title: str, empty: str, column: str, counts: Mapping[str, int]) -> Chart:
    svg = charts.horizontal_bars(counts, alt=_describe(title, counts)) if any(counts.values()) else None
    return Chart(title, svg, empty, (column, "Count"), [(name, [count]) for name, count in counts.items()])


def _describe(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) + "."
