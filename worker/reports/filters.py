"""What a person gives a report to filter by, as the ledger takes it: days as times, the code of a Series as its id."""

from datetime import date, datetime, timedelta

from sqlalchemy import Connection

from schemas.reports import EnrolmentFilter, OutcomeFilter
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError
from worker.jobs.calendar import effective_time
from worker.ledger import series_library
from worker.ledger.report_conditions import Period
from worker.ledger.series_library import CountedSeries
from worker.texts import text


def find_period(
    connection: Connection, organisation_id: int, wanted: EnrolmentFilter | OutcomeFilter, *, name: str = "withdrawn"
) -> Period:
    """The period that a filter gives. A day starts and ends in the organisation's time zone.

    `name`: of its days, for the messages about the withdrawals of a filter.

    Raises:
        InvalidInputError: the period ends before it starts, or a day is too far away.
    """
    if isinstance(wanted, EnrolmentFilter):
        return _period(connection, organisation_id, wanted.withdrawn_from, wanted.withdrawn_to, name)
    return _period(connection, organisation_id, wanted.decided_from, wanted.decided_to, "decided")


def find_series_id(database: Database, organisation_id: int, code: str) -> int:
    """The id of the Series with this code.

    Raises:
        NotFoundError: no Series of the organisation has it.
    """
    with database.begin() as connection:
        found = series_library.find_series_id(connection, organisation_id, code)
    if found is None:
        raise NotFoundError(text("series: no Series of this organisation has the code {code!r}", code=code))
    return found


def suggest_series(database: Database, organisation_id: int, containing: str, limit: int = 20) -> list[CountedSeries]:
    """Series to choose from: those that have this text in their code or title."""
    with database.begin() as connection:
        return series_library.list_series(connection, organisation_id, containing=containing, after=None, limit=limit)


def _period(
    connection: Connection, organisation_id: int, first: datetime | date | None, last: datetime | date | None, name: str
) -> Period:
    if first is not None and not isinstance(first, datetime):
        if first == date.min:
            raise InvalidInputError(text("{name}_from: that date is too far away", name=name))
        first -= timedelta(days=1)  # the end of the day before
    field = f"{name}_from, {name}_to"
    begin = effective_time(connection, organisation_id, first, field=field)
    end = effective_time(connection, organisation_id, last, field=field)
    if begin is not None and end is not None and begin >= end:
        raise InvalidInputError(text("{name}_to: is not after {name}_from", name=name))
    return Period(begin, end)
