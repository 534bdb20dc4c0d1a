"""Two periods beside each other, and the list of the rows behind a figure of either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from markupsafe import Markup

from schemas.reports import Comparison, Difference, FigureKind, Summary
from worker.texts import joined, text
from worker.web.console import charts
from worker.web.console.render import PATH
from worker.web.console.view import View
from worker.web.console.words import word

_RFC3339 = "%Y-%m-%dT%H:%M:%SZ"
_LONGEST = 26
_KEPT = ("series", "source", "reason", "status", "exclude_status")
_ALL = {FigureKind.WITHDRAWN: text("Withdrawn"), FigureKind.REFUSED: text("Refused")}


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A figure of both periods, with the lists behind them."""

    label: str
    is_sum: bool
    now: int
    now_href: str
    before: int
    before_href: str
    difference: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What the page shows of a comparison."""

    period: Summary
    before: Summary
    svg: Markup
    rows: list[ComparedRow]


def show(view: View, found: Comparison) -> Compared:
    """The figures of two periods as a chart and a table, each with the list behind it."""
    rows = [_row(view, found, one) for one in found.differences]
    now, before = view.say(text("This period")), view.say(text("Compared with"))
    kinds = {now: [row.now for row in rows], before: [row.before for row in rows]}
    hrefs = {now: [row.now_href for row in rows], before: [row.before_href for row in rows]}
    said = joined(
        (
            text("{label} {now:,}, compared with {before:,}", label=row.label, now=row.now, before=row.before)
            for row in rows
        ),
        ", ",
    )
    svg = charts.grouped_bars(
        [_shorten(row.label) for row in rows],
        kinds,
        language=view.language,
        alt=view.say(text("Two periods compared: {figures}.", figures=said)),
        hrefs=hrefs,
    )
    return Compared(found.period, found.before, svg, rows)


def _shorten(label: str) -> str:
    """A label that leaves room for its bars; the table has it whole."""
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1].rstrip() + "…"


def list_behind(view: View, outcomes: Sequence[str], begin: datetime | None, end: datetime | None, **more: str) -> str:
    """The list of the outcomes that a figure counts, by the same filter."""
    bounds = (("decided_from", begin), ("decided_to", end))
    wanted: Mapping[str, str] = {
        **{name: f"{at.astimezone(UTC):{_RFC3339}}" for name, at in bounds if at},
        **more,
        "standing": "true",
    }
    query = view.request.query_params.multi_items()
    kept = [(name, value) for name, value in query if name in _KEPT and value and name not in wanted]
    pairs = [*(("outcome", outcome) for outcome in outcomes), *kept, *wanted.items()]
    return f"{PATH}/reports/outcomes?{urlencode(pairs)}"


def _row(view: View, found: Comparison, one: Difference) -> ComparedRow:
    periods = (found.period, found.before)
    now_href, before_href = (_behind(view, one, period) for period in periods)
    label = view.say(_ALL[one.kind] if one.code is None else word(one.code))
    difference = _signed(view, one.difference)
    return ComparedRow(label, one.code is None, one.now, now_href, one.before, before_href, difference)


def _behind(view: View, one: Difference, period: Summary) -> str:
    bounds = period.withdrawn_from, period.withdrawn_to
    if one.kind is FigureKind.WITHDRAWN:
        if one.code is None:
            return list_behind(view, ["withdrawn"], *bounds)
        return list_behind(view, ["withdrawn"], *bounds, reason=one.code)
    causes = [row.cause for row in period.refused] if one.code is None else [one.code]
    return list_behind(view, causes, *bounds) if causes else ""


def _signed(view: View, difference: int) -> str:
    if not difference:
        return "0"
    return view.language.number(difference, "+,").replace("-", "−")  # noqa: RUF001 - the sign of a number
