"""The summary page: figures and charts of a period, and under each chart its figures as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import Response

from schemas.catalogue import Reason
from schemas.reports import DURATION_BANDS, LETTER_AGES, Comparison, ComparisonFilter, LetterAge, Summary
from worker.database import Database
from worker.errors import InvalidInputError
from worker.reports.summary import compare as compare_periods
from worker.reports.summary import summarise
from worker.texts import Text, joined, text
from worker.web.console import charts, comparison
from worker.web.console.comparison import list_behind
from worker.web.console.languages import span
from worker.web.console.render import PATH
from worker.web.console.reports import describe_filter, filter_form, read_filter, refusal_page
from worker.web.console.view import Looking, View
from worker.web.console.words import word

router = APIRouter(prefix=f"{PATH}/reports", include_in_schema=False)

WEEKS = 12
"""Weeks that are shown by default, the current one included."""
MOST_WEEKS = 54
BEFORE, OTHER = "before", "other"
"""What a period is compared with, in an address: the one just before, or the chosen one."""


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
    """What happened to the requests of a period, beside another period if one is chosen."""
    form = filter_form(view, "summary")
    compare = view.request.query_params.get("compare", "")
    try:
        wanted = _from_default(read_filter(view, ComparisonFilter), compare)
        read = view.services.pools.reader.read(lambda database: _read(database, view.organisation_id, wanted, compare))
        found, other = read.found
        weeks = _weeks(found)
    except InvalidInputError as error:
        return refusal_page(view, "reports_summary.html", form, error)
    if found.withdrawn_from is not None:
        form["given"].setdefault("withdrawn_from", [found.withdrawn_from.astimezone(UTC).date().isoformat()])
        form["described"] = describe_filter(form["given"])
    drawn = [
        _withdrawals(found, weeks, view),
        _durations(found, view),
        _refusals(found, view),
        _open_letters(found, view),
    ]
    return view.page(
        "reports_summary.html",
        **form,
        figures=_figures(found, view),
        charts=drawn,
        comparison=other and comparison.show(view, other),
        lag=read.lag,
    )


def _read(
    database: Database, organisation_id: int, wanted: ComparisonFilter, compare: str
) -> tuple[Summary, Comparison | None]:
    if not compare:
        return summarise(database, organisation_id, wanted), None
    found = compare_periods(database, organisation_id, wanted)
    return found.period, found


def _figures(found: Summary, view: View) -> list[tuple[str, str, str]]:
    """Each figure with its label and its link."""
    took = found.seconds_to_withdrawal
    bounds = found.withdrawn_from, found.withdrawn_to
    causes = [row.cause for row in found.refused]
    refused = sum(row.count for row in found.refused)
    number = view.language.number
    return [
        (number(took.count), text("withdrawn"), list_behind(view, ["withdrawn"], *bounds) if took.count else ""),
        (
            number(refused),
            text("refused"),
            list_behind(view, causes, *bounds) if causes else "",
        ),
        (_length(took.p50), text("Median"), ""),
        (_length(took.p99), text("99 of 100 within"), ""),
        (number(sum(row.count for row in found.open_letters)), text("need attention now"), f"{PATH}/dead-letters"),
    ]


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    return text("{seconds:.1f} s", seconds=max(seconds, 0)) if seconds < 10 else span(seconds)


def _from_default(wanted: ComparisonFilter, compare: str) -> ComparisonFilter:
    """The filter with a start: by default the Monday (UTC) with which the last twelve weeks start.

    Raises:
        InvalidInputError: what it is compared with is missing or not known.
    """
    if compare not in ("", BEFORE, OTHER):
        raise InvalidInputError(text("Compare with: not one of {one}, {other}", one=BEFORE, other=OTHER))
    if compare == OTHER and wanted.compare_from is None:
        raise InvalidInputError(text("Compare from: choose a day"))
    if compare != OTHER:
        wanted = wanted.model_copy(update={"compare_from": None, "compare_to": None})
    if wanted.withdrawn_from is not None:
        return wanted
    last = wanted.withdrawn_to or datetime.now(UTC)
    try:
        begin = _monday(last) - timedelta(weeks=WEEKS - 1)
    except OverflowError:
        raise InvalidInputError(text("Withdrawn to: that date is too far away")) from None
    return wanted.model_copy(update={"withdrawn_from": datetime(begin.year, begin.month, begin.day, tzinfo=UTC)})


def _weeks(found: Summary) -> list[date]:
    """Every week from the first to the last, also those without a withdrawal."""
    now = datetime.now(UTC)
    first, last = _monday(found.withdrawn_from or now), _monday(min(found.withdrawn_to or now, now))
    count = (last - first).days // 7 + 1
    if count > MOST_WEEKS:
        said = text("Withdrawn from: the charts show at most {weeks} weeks. Choose a later day.", weeks=MOST_WEEKS)
        raise InvalidInputError(said)
    return [first + timedelta(weeks=n) for n in range(count)]


def _monday(at: date) -> date:
    day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
    return day - timedelta(days=day.weekday())


def _withdrawals(found: Summary, weeks: list[date], view: View) -> Chart:
    counts = {reason.value: dict.fromkeys(weeks, 0) for reason in Reason}
    for row in found.withdrawals:
        counts.setdefault(row.reason, dict.fromkeys(weeks, 0))[row.week] = row.count
    by_reason = {view.say(word(reason)): list(by_week.values()) for reason, by_week in counts.items()}
    sums = {reason: sum(by_week) for reason, by_week in by_reason.items()}
    hrefs = {
        view.say(word(reason)): [
            list_behind(view, ["withdrawn"], *_bounds(found, week), reason=reason) for week in weeks
        ]
        for reason in counts
    }
    names = [view.say(text("{week:%-d %b}", week=week)) for week in weeks]
    alt = _describe(view, text("Withdrawals by week and reason"), sums)
    return Chart(
        text("Withdrawals by reason and week"),
        charts.stacked_columns(names, by_reason, language=view.language, alt=alt, hrefs=hrefs)
        if any(sums.values())
        else None,
        text("Nothing was withdrawn in these weeks."),
        (text("Week from"), *by_reason),
        [
            (view.language.day(week), [(by_reason[reason][place], hrefs[reason][place]) for reason in by_reason])
            for place, week in enumerate(weeks)
        ],
        list(by_reason),
    )


def _bounds(found: Summary, week: date) -> tuple[datetime, datetime]:
    """The part of a week that the summary is about."""
    begin = datetime(week.year, week.month, week.day, tzinfo=UTC)
    end = begin + timedelta(weeks=1)
    return max(begin, found.withdrawn_from or begin), min(end, found.withdrawn_to or end)


def _durations(found: Summary, view: View) -> Chart:
    rows = found.seconds_to_withdrawal.bands
    labels = {row.band: view.say(text(DURATION_BANDS[row.band].label)) for row in rows}
    counts = {labels[row.band]: row.count for row in rows}
    bounds = found.withdrawn_from, found.withdrawn_to
    hrefs = {labels[row.band]: list_behind(view, ["withdrawn"], *bounds, took=row.band) for row in rows}
    title, empty = text("Time from request to withdrawal"), text("Nothing was withdrawn in these weeks.")
    return _bars(view, title, empty, text("Time"), counts, hrefs)


def _refusals(found: Summary, view: View) -> Chart:
    rows = sorted(found.refused, key=lambda row: -row.count)
    counts = {view.say(word(row.cause)): row.count for row in rows}
    period = found.withdrawn_from, found.withdrawn_to
    hrefs = {view.say(word(row.cause)): list_behind(view, [row.cause], *period) for row in rows}
    title, empty = text("Refused, by cause"), text("Nothing was refused in these weeks.")
    return _bars(view, title, empty, text("Cause"), counts, hrefs)


def _open_letters(found: Summary, view: View) -> Chart:
    labels = {age: view.say(text(bound.label)) for age, bound in LETTER_AGES.items()}
    counts = dict.fromkeys(labels.values(), 0)
    for row in found.open_letters:
        counts[labels[row.age]] += row.count
    title, empty = text("Letters that need attention now, by age"), text("Nothing needs attention.")
    return _bars(view, title, empty, text("Age"), counts, _letters_behind(labels))


def _letters_behind(labels: Mapping[LetterAge, str]) -> dict[str, str]:
    """The list of the open letters of each age. Each age starts where the one before ends."""
    found: dict[str, str] = {}
    older: dict[str, str] = {}
    for age, bound in LETTER_AGES.items():
        hours = None if bound.below is None else f"{int(bound.below.total_seconds() // 3600)}h"
        query = {"state": "open", **older, **({"newer_than": hours} if hours else {})}
        found[labels[age]] = f"{PATH}/dead-letters?{urlencode(query)}"
        older = {"older_than": hours} if hours else {}
    return found


def _bars(
    view: View, title: Text, empty: Text, column: Text, counts: Mapping[str, int], hrefs: Mapping[str, str]
) -> Chart:
    alt = _describe(view, title, counts)
    return Chart(
        title,
        charts.horizontal_bars(counts, language=view.language, alt=alt, hrefs=hrefs) if any(counts.values()) else None,
        empty,
        (column, text("Count")),
        [(name, [(count, hrefs.get(name, ""))]) for name, count in counts.items()],
    )


def _describe(view: View, title: Text, counts: Mapping[str, int]) -> str:
    figures = joined(
        (text("{name} {count:,}", name=name, count=count) for name, count in counts.items() if count), ", "
    )
    return view.say(text("{title}: {figures}.", title=title, figures=figures))
