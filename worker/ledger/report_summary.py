"""The sums of the summary: withdrawals by week and reason, refusals by cause, durations, open dead letters by age."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Interval,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import array

from schemas.catalogue import Outcome
from schemas.reports import DURATION_BANDS, LETTER_AGES, OutcomeFilter
from worker.ledger.fragments import LIVE, one_of
from worker.ledger.report_conditions import Period, needs_enrolments, outcome_conditions, seconds_until
from worker.ledger.report_lists import Rows
from worker.models import dead_letters, enrolments, jobs, outcomes

_NEITHER_DONE_NOR_REFUSED = (Outcome.ALREADY_WITHDRAWN, Outcome.CANCELLED)


def use_more_memory(connection: Connection) -> None:
    """Let this transaction count and sort a million outcomes in memory."""
    connection.execute(text("SET LOCAL work_mem = '64MB'"))


def withdrawn_and_refused(connection: Connection, organisation_id: int, wanted: OutcomeFilter, period: Period) -> Rows:
    """Outcomes that still stand, counted (`n`) by `week`, `reason` and `outcome`.

    `week`: the Monday (UTC) on which the week of the withdrawal starts; None for a refusal.
    """
    is_withdrawal = one_of(outcomes.c.outcome, [Outcome.WITHDRAWN])
    monday = cast(func.date_trunc("week", func.timezone("UTC", outcomes.c.decided_at)), Date)
    counted = select(
        case((is_withdrawal, monday)).label("week"), jobs.c.reason, outcomes.c.outcome, func.count().label("n")
    )
    counted = _standing(counted, organisation_id, wanted, period).where(
        outcomes.c.outcome.not_in(_NEITHER_DONE_NOR_REFUSED)
    )
    groups: tuple[ColumnElement[Any], ...] = (literal_column("week"), jobs.c.reason, outcomes.c.outcome)
    return connection.execute(counted.group_by(*groups).order_by(*groups)).all()


def durations(
    connection: Connection, organisation_id: int, wanted: OutcomeFilter, period: Period
) -> tuple[list[int], list[float] | None]:
    """Withdrawals in each of `DURATION_BANDS`, and the 50th, 95th and 99th percentile of their seconds.

    The time runs from the request, or from its effective time if that is later, to the withdrawal.
    """
    seconds = seconds_until(outcomes.c.decided_at).label("seconds")
    withdrawals = _standing(select(seconds), organisation_id, wanted, period).where(
        one_of(outcomes.c.outcome, [Outcome.WITHDRAWN])
    )
    # OFFSET keeps the planner from computing the length anew for each band.
    took = withdrawals.offset(literal_column("0")).subquery("withdrawals").c.seconds
    below = [
        func.count() if bound.below is None else func.count().filter(took < bound.below.total_seconds())
        for bound in DURATION_BANDS.values()
    ]
    percentiles = func.percentile_cont(array([0.5, 0.95, 0.99])).within_group(took)
    *counts, percentile_seconds = connection.execute(select(*below, percentiles)).one()
    return [most - least for least, most in pairwise([0, *counts])], percentile_seconds


def open_letters(connection: Connection, organisation_id: int) -> Rows:
    """Dead letters that are not closed, counted (`n`) by `age` (of `LetterAge`, the youngest first) and `code`."""
    opened_at = dead_letters.c.opened_at
    *younger, (oldest, _) = LETTER_AGES.items()
    age = case(
        *((opened_at > _ago(bound.below), name.value) for name, bound in younger if bound.below is not None),
        else_=oldest.value,
    )
    groups: tuple[ColumnElement[Any], ...] = (literal_column("age"), dead_letters.c.code)
    counted = select(age.label("age"), dead_letters.c.code, func.count().label("n")).where(
        dead_letters.c.organisation_id == organisation_id, one_of(dead_letters.c.state, LIVE)
    )
    counted = counted.group_by(*groups).order_by(func.min(opened_at).desc(), dead_letters.c.code)
    return connection.execute(counted).all()


def _standing(selected: Select[Any], organisation_id: int, wanted: OutcomeFilter, period: Period) -> Select[Any]:
    """Outcomes of withdrawals that were not reinstated since. Enrolments are joined only if a condition needs them.

    The organisation is named twice, so that a small one's outcomes can be found by its jobs.
    """
    rows = outcomes.join(jobs, jobs.c.id == outcomes.c.job_id)
    if needs_enrolments(wanted):
        own = and_(enrolments.c.id == outcomes.c.enrolment_id, enrolments.c.organisation_id == organisation_id)
        rows = rows.outerjoin(enrolments, own)
    return selected.select_from(rows).where(
        outcomes.c.organisation_id == organisation_id,
        jobs.c.organisation_id == organisation_id,
        jobs.c.kind == "withdraw",
        outcomes.c.reinstated_by.is_(None),
        *outcome_conditions(wanted, period, outcomes),
    )


def _ago(length: timedelta) -> ColumnElement[Any]:
    return func.now() - literal(length, Interval)
