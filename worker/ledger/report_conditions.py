"""The filters of reports as conditions: one function for each filter, shared by pages, exports and sums.

Only conditions that were given stand in a statement, so that PostgreSQL plans for the question asked.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Double, FromClause, cast, func

from schemas.reports import DURATION_BANDS, DurationBand, EnrolmentFilter, OutcomeFilter, StatusFilter
from worker.models import enrolments, jobs


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` up to, but not including, `end`. None: no bound."""

    begin: datetime | None = None
    end: datetime | None = None


def enrolment_conditions(
    wanted: EnrolmentFilter, period: Period, *, source: ColumnElement[str]
) -> list[ColumnElement[bool]]:
    """Conditions on `enrolments`. `period`: when it was withdrawn; `source`: of the job that withdrew it."""
    conditions = _status_conditions(wanted, source)
    if wanted.reason is not None:
        conditions.append(enrolments.c.withdrawal_reason == wanted.reason)
    return conditions + _within(period, enrolments.c.withdrawn_at)


def outcome_conditions(wanted: OutcomeFilter, period: Period, outcome: FromClause) -> list[ColumnElement[bool]]:
    """Conditions on `outcome`, joined with `jobs` and, for the status or the Series, with `enrolments`.

    `outcome`: the table of outcomes, or a selection with its columns. `period`: when it was decided.
    """
    conditions = _status_conditions(wanted, jobs.c.source)
    if wanted.reason is not None:
        conditions.append(jobs.c.reason == wanted.reason)
    if wanted.job_id is not None:
        conditions.append(outcome.c.job_id == wanted.job_id)
    if wanted.outcome:
        conditions.append(outcome.c.outcome.in_(wanted.outcome))
    if wanted.took is not None:
        conditions += _took(wanted.took, outcome)
    return conditions + _within(period, outcome.c.decided_at)


def seconds_until(decided_at: ColumnElement[datetime]) -> ColumnElement[float]:
    """Seconds from a job's request, or from its effective time if that is later, to a decision."""
    started = func.greatest(jobs.c.created_at, jobs.c.effective_at)
    return cast(func.extract("epoch", decided_at - started), Double)


def _took(band: DurationBand, outcome: FromClause) -> list[ColumnElement[bool]]:
    bounds = [bound.below for bound in DURATION_BANDS.values()]
    place = list(DURATION_BANDS).index(band)
    least, most = bounds[place - 1] if place else None, bounds[place]
    took = seconds_until(outcome.c.decided_at)
    found: list[ColumnElement[bool]] = []
    if least is not None:
        found.append(took >= least.total_seconds())
    if most is not None:
        found.append(took < most.total_seconds())
    return found


def needs_enrolments(wanted: StatusFilter) -> bool:
    """Whether the conditions look at the enrolment itself."""
    return bool(wanted.status or wanted.exclude_status or wanted.series_id is not None)


def _status_conditions(wanted: StatusFilter, source: ColumnElement[str]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.status:
        conditions.append(enrolments.c.status.in_(wanted.status))
    if wanted.exclude_status:  # an outcome whose enrolment does not exist has no status, so none excludes it
        conditions.append(func.coalesce(enrolments.c.status.not_in(wanted.exclude_status), True))
    if wanted.series_id is not None:
        conditions.append(enrolments.c.series_id == wanted.series_id)
    if wanted.source is not None:
        conditions.append(source == wanted.source)
    return conditions


def _within(period: Period, at: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if period.begin is not None:
        conditions.append(at >= period.begin)
    if period.end is not None:
        conditions.append(at < period.end)
    return conditions
