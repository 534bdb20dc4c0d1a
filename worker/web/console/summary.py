"""The summary of some weeks: figures, charts, and under each chart its figures as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import Response

from schemas.catalogue import Reason
from schemas.reports import EnrolmentFilter, Summary
from worker.errors import InvalidInputError
from worker.reports import lists
from worker.web.console import charts
from worker.web.console.render import PATH, span
from worker.web.console.reports import page_of, refused, wanted_of
from worker.web.console.view import Looking
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

WEEKS = 12
"""Weeks that are shown, this one among them, when nobody says otherwise."""
MOST_WEEKS = 54
_AGES = {
    "under_1_hour": "Under an hour",
    "under_1_day": "1 to 24 h",
    "under_1_week": "1 to 7 days",
    "over_1_week": "Over a week",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table; without figures there is a sentence in its place."""

    title: str
    drawn: Markup | None
    without: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]
    legend: Sequence[str] = ()


@router.get("/summary")
def summary(view: Looking) -> Response:
    """What happened to the requests of some weeks."""
    page = page_of(view, "summary")
    try:
        wanted = _lately(wanted_of(view, EnrolmentFilter))
        found = lists.summary(view.database, view.organisation_id, wanted)
        weeks = _weeks(found)
    except InvalidInputError as error:
        return refused(view, "reports_summary.html", page, error)
    if found.withdrawn_from is not None:
        page["given"].setdefault("withdrawn_from", [found.withdrawn_from.astimezone(UTC).date().isoformat()])
    shown = [_by_week(found, weeks), _took(found), _refused(found), _letters(found)]
    return view.page("reports_summary.html", **page, figures=_figures(found), charts=shown)


def _figures(found: Summary) -> list[tuple[str, str, str]]:
    """Figure, label and link."""
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


def _lately(wanted: EnrolmentFilter) -> EnrolmentFilter:
    """With a beginning: the Monday (UTC) that makes it twelve weeks."""
    if wanted.withdrawn_from is not None:
        return wanted
    last = wanted.withdrawn_to or datetime.now(UTC)
    try:
        begin = _monday(last) - timedelta(weeks=WEEKS - 1)
    except OverflowError:
        raise InvalidInputError("Withdrawn to: that date is too far away") from None
    return wanted.model_copy(update={"withdrawn_from": datetime(begin.year, begin.month, begin.day, tzinfo=UTC)})


def _weeks(found: Summary) -> list[date]:
    """Every week from the first to the last, those without a withdrawal too."""
    now = datetime.now(UTC)
    first, last = _monday(found.withdrawn_from or now), _monday(min(found.withdrawn_to or now, now))
    count = (last - first).days // 7 + 1
    if count > MOST_WEEKS:
        raise InvalidInputError(f"Withdrawn from: the charts show {MOST_WEEKS} weeks at the most; choose fewer")
    return [first + timedelta(weeks=n) for n in range(count)]


def _monday(at: date) -> date:
    day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
    return day - timedelta(days=day.weekday())


def _by_week(found: Summary, weeks: list[date]) -> Chart:
    counts = {reason.value: dict.fromkeys(weeks, 0) for reason in Reason}
    for row in found.withdrawals:
        counts.setdefault(row.reason, dict.fromkeys(weeks, 0))[row.week] = row.count
    series = {word(reason): list(by_week.values()) for reason, by_week in counts.items()}
    sums = {reason: sum(by_week) for reason, by_week in series.items()}
    names = [f"{week:%-d %b}" for week in weeks]
    return Chart(
        "Withdrawals by reason and week",
        charts.columns(names, series, says=_says("Withdrawals by week and reason", sums))
        if any(sums.values())
        else None,
        "Nothing was withdrawn in these weeks.",
        ("Week from", *series),
        [(f"{week:%-d %b %Y}", [by_week[n] for by_week in series.values()]) for n, week in enumerate(weeks)],
        list(series),
    )


def _took(found: Summary) -> Chart:
    counts = {word(row.band): row.count for row in found.seconds_to_withdrawal.bands}
    return _bars("Time from request to withdrawal", "Nothing was withdrawn in these weeks.", "Time", counts)


def _refused(found: Summary) -> Chart:
    counts = {word(row.cause): row.count for row in sorted(found.refused, key=lambda row: -row.count)}
    return _bars("Refused, by cause", "Nothing was refused in these weeks.", "Cause", counts)


def _letters(found: Summary) -> Chart:
    counts = dict.fromkeys(_AGES, 0)
    for row in found.open_letters:
        counts[row.age] += row.count
    named = {_AGES[age]: count for age, count in counts.items()}
    return _bars("Open dead letters by age, now", "No dead letter is open.", "Age", named)


def _bars(title: str, without: str, of: str, counts: Mapping[str, int]) -> Chart:
    drawn = charts.bars(counts, says=_says(title, counts)) if any(counts.values()) else None
    return Chart(title, drawn, without, (of, "Count"), [(name, [count]) for name, count in counts.items()])


def _says(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) + "."
