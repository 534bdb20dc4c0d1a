"""The summary: what happened to the requests of a period, as sums."""

from schemas.reports import (
    DURATION_BANDS,
    AgeCount,
    BandCount,
    CauseCount,
    Durations,
    EnrolmentFilter,
    OutcomeFilter,
    Summary,
    WeekCount,
)
from worker.database import Database
from worker.ledger import report_lists, report_summary
from worker.reports.filters import find_period
from worker.rules import CLEAN


def summarise(database: Database, organisation_id: int, wanted: EnrolmentFilter) -> Summary:
    """Withdrawals by reason and week, refusals by cause, time to withdrawal, open dead letters by age.

    `withdrawn_from` and `withdrawn_to` bound the time of every decision, refusals included.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    decisions = _of_outcomes(wanted)
    with database.begin() as connection:
        report_lists.use_snapshot(connection)
        period = find_period(connection, organisation_id, wanted)
        report_summary.use_more_memory(connection)
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
