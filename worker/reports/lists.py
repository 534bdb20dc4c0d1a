"""Enrolments and outcomes with the Status filter (rule 8), in pages. `exports` writes the same rows to files."""

from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.database import Database
from worker.ledger import report_lists
from worker.ledger.report_lists import Rows
from worker.reports.filters import find_period


def list_enrolments(
    database: Database, organisation_id: int, wanted: EnrolmentFilter, *, before: int | None, limit: int
) -> Rows:
    """A page of enrolments, newest first. `before`: the last id of the page before.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.enrolment_page(connection, organisation_id, wanted, period, before=before, limit=limit)


def list_outcomes(
    database: Database, organisation_id: int, wanted: OutcomeFilter, *, before: tuple[int, int] | None, limit: int
) -> Rows:
    """A page of outcomes, newest job first. `before`: job and enrolment of the last row of the page before.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.outcome_page(connection, organisation_id, wanted, period, before=before, limit=limit)


COUNTED_AT_MOST = 5_000
"""Rows that a page counts; of more it says that there are more."""


def count_enrolments(database: Database, organisation_id: int, wanted: EnrolmentFilter) -> int:
    """How many enrolments a filter finds, or one more than `COUNTED_AT_MOST`.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.count_enrolments(connection, organisation_id, wanted, period, most=COUNTED_AT_MOST)


def count_outcomes(database: Database, organisation_id: int, wanted: OutcomeFilter) -> int:
    """How many outcomes a filter finds, or one more than `COUNTED_AT_MOST`.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    with database.begin() as connection:
        period = find_period(connection, organisation_id, wanted)
        return report_lists.count_outcomes(connection, organisation_id, wanted, period, most=COUNTED_AT_MOST)
