"""The summary: what happened to the requests of a period, as sums."""

from datetime import timedelta

from sqlalchemy import Connection

from schemas.reports import (
    DURATION_BANDS,
    AgeCount,
    BandCount,
    CauseCount,
    Comparison,
    ComparisonFilter,
    Difference,
    Durations,
    EnrolmentFilter,
    FigureKind,
    OutcomeFilter,
    Summary,
    WeekCount,
)
from worker.database import Database
from worker.errors import InvalidInputError
from worker.ledger import jobs, report_lists, report_summary
from worker.ledger.report_conditions import Period
from worker.reports.filters import find_period
from worker.rules import CLEAN
from worker.texts import text


def summarise(database: Database, organisation_id: int, wanted: EnrolmentFilter) -> Summary:
    """Withdrawals by reason and week, refusals by cause, time to withdrawal, open dead letters by age.

    `withdrawn_from` and `withdrawn_to` bound the time of every decision, refusals included.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        report_lists.use_snapshot(connection)
        period = find_period(connection, organisation_id, wanted)
        report_summary.use_more_memory(connection)
        return _summarise(connection, organisation_id, wanted, period)


def compare(database: Database, organisation_id: int, wanted: ComparisonFilter) -> Comparison:
    """The summary of a period beside that of another: the one that was chosen, else the one just before, as long.

    Raises:
        InvalidInputError: a period has no start, ends before it starts, or is too far away.
    """
    with database.begin() as connection:
        report_lists.use_snapshot(connection)
        period = find_period(connection, organisation_id, wanted)
        other = _other_period(connection, organisation_id, wanted, period)
        report_summary.use_more_memory(connection)
        now, before = (_summarise(connection, organisation_id, wanted, one) for one in (period, other))
    return Comparison(period=now, before=before, differences=_differences(now, before))


def _other_period(connection: Connection, organisation_id: int, wanted: ComparisonFilter, period: Period) -> Period:
    if wanted.compare_from is not None or wanted.compare_to is not None:
        chosen = EnrolmentFilter(withdrawn_from=wanted.compare_from, withdrawn_to=wanted.compare_to)
        return find_period(connection, organisation_id, chosen, name="compare")
    if period.begin is None:
        raise InvalidInputError(text("withdrawn_from: is needed to compare with the period before"))
    now = jobs.database_now(connection)
    length = max(min(period.end or now, now) - period.begin, timedelta())
    try:
        return Period(period.begin - length, period.begin)
    except OverflowError:
        raise InvalidInputError(text("withdrawn_from: that date is too far away")) from None


def _differences(now: Summary, before: Summary) -> list[Difference]:
    """Withdrawals in all and by reason, refusals in all and by cause."""
    found: list[Difference] = []
    for kind, counts in (
        (FigureKind.WITHDRAWN, [_by_reason(one) for one in (now, before)]),
        (FigureKind.REFUSED, [{row.cause: row.count for row in one.refused} for one in (now, before)]),
    ):
        new, old = counts
        found.append(_difference(kind, None, sum(new.values()), sum(old.values())))
        found += [_difference(kind, code, new.get(code, 0), old.get(code, 0)) for code in sorted(new | old)]
    return found


def _difference(kind: FigureKind, code: str | None, now: int, before: int) -> Difference:
    return Difference(kind=kind, code=code, now=now, before=before, difference=now - before)


def _by_reason(summary: Summary) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in summary.withdrawals:
        counts[row.reason] = counts.get(row.reason, 0) + row.count
    return counts


def _summarise(connection: Connection, organisation_id: int, wanted: EnrolmentFilter, period: Period) -> Summary:
    decisions = _of_outcomes(wanted)
    counted = report_summary.withdrawn_and_refused(connection, organisation_id, decisions, period)
    in_bands, percentiles = report_summary.durations(connection, organisation_id, decisions, period)
    letters = report_summary.open_letters(connection, organisation_id)
    refused: dict[str, int] = {}
    for row in counted:
        if row.outcome not in CLEAN:
            refused[row.outcome] = refused.get(row.outcome, 0) + row.n
    return Summary(
        withdrawn_from=period.begin,
        withdrawn_to=period.end,
        withdrawals=[
            WeekCount(week=row.week, reason=row.reason, count=row.n) for row in counted if row.outcome in CLEAN
        ],
        refused=[CauseCount(cause=cause, count=count) for cause, count in sorted(refused.items())],
        seconds_to_withdrawal=_durations(in_bands, percentiles),
        open_letters=[AgeCount(age=row.age, code=row.code, count=row.n) for row in letters],
    )


def _of_outcomes(wanted: EnrolmentFilter) -> OutcomeFilter:
    """The same filter over what jobs decided."""
    return OutcomeFilter(
        status=wanted.status,
        exclude_status=wanted.exclude_status,
        series_id=wanted.series_id,
        source=wanted.source,
        reason=wanted.reason,
        decided_from=wanted.withdrawn_from,
        decided_to=wanted.withdrawn_to,
    )


def _durations(in_bands: list[int], percentiles: list[float] | None) -> Durations:
    total = sum(in_bands)
    p50, p95, p99 = percentiles or (None, None, None)
    bands = [BandCount(band=band, count=count) for band, count in zip(DURATION_BANDS, in_bands, strict=True) if total]
    return Durations(count=total, p50=p50, p95=p95, p99=p99, bands=bands)
