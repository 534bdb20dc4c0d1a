"""Enrolments and outcomes with the Status filter (rule 8), in pages. `exports` writes the same rows to files."""

from sqlalchemy import Connection

from schemas.reports import EnrolmentFilter, OutcomeFilter, RowCount
from worker.database import Database
from worker.faults import is_passing
from worker.ledger import report_lists
from worker.ledger.report_conditions import Period
from worker.ledger.report_lists import Rows
from worker.reports.filters import find_period


def list_enrolments(
    database: Database,
    organisation_id: int,
    wanted: EnrolmentFilter,
    *,
    before: int | None,
    limit: int,
    names: bool = False,
) -> Rows:
    """A page of enrolments, newest first. `before`: the last id of the page before; `names`: with the learner's.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.enrolment_page(
            connection, organisation_id, wanted, period, before=before, limit=limit, names=names
        )


def list_outcomes(
    database: Database,
    organisation_id: int,
    wanted: OutcomeFilter,
    *,
    before: tuple[int, int] | None,
    limit: int,
    names: bool = False,
) -> Rows:
    """A page of outcomes, newest job first. `before`: job and enrolment of the last row of the page before.

    `names`: with the learner's name and e-mail address.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.outcome_page(
            connection, organisation_id, wanted, period, before=before, limit=limit, names=names
        )


COUNTED_AT_MOST = 10_000
"""Rows that are counted; of more it says that there are more (ops/decisions/0045)."""


def count_rows(database: Database, organisation_id: int, wanted: EnrolmentFilter | OutcomeFilter) -> RowCount:
    """How many rows a filter finds, exact up to `COUNTED_AT_MOST`; None if that takes too long.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
    try:
        with database.begin() as connection:
            count = _count(connection, organisation_id, wanted, period)
    except Exception as error:
        if not is_passing(error):
            raise
        return RowCount(count=None, counted_to=COUNTED_AT_MOST, at_least=False)
    more = count > COUNTED_AT_MOST
    return RowCount(count=COUNTED_AT_MOST if more else count, counted_to=COUNTED_AT_MOST, at_least=more)


def _count(
    connection: Connection, organisation_id: int, wanted: EnrolmentFilter | OutcomeFilter, period: Period
) -> int:
    if isinstance(wanted, EnrolmentFilter):
        return report_lists.count_enrolments(connection, organisation_id, wanted, period, most=COUNTED_AT_MOST)
    return report_lists.count_outcomes(connection, organisation_id, wanted, period, most=COUNTED_AT_MOST)
