"""Days as an organisation counts them: in its own time zone."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection

from worker.errors import InvalidInputError
from worker.ledger import jobs
from worker.texts import text


def effective_time(
    connection: Connection, organisation_id: int, when: datetime | date | None, *, field: str = "effective_at"
) -> datetime | None:
    """The point in time that `when` means: a date alone is the end of that day in the organisation's time zone.

    `field`: its name, for the message.

    Raises:
        InvalidInputError: the organisation's time zone is unknown, or the date is out of range.
    """
    if when is None or isinstance(when, datetime):
        return when
    return end_of_day(when, jobs.timezone(connection, organisation_id), field=field)


def end_of_day(day: date, zone: str, *, field: str = "effective_at") -> datetime:
    """The end of a day in a time zone, an IANA name.

    Raises:
        InvalidInputError: the time zone is unknown, or the date is out of range.
    """
    try:
        known = ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError):  # the platform's own value
        raise InvalidInputError(
            text(
                "{field}: the organisation's time zone {zone!r} is not known; give a time with its offset",
                field=field,
                zone=zone,
            )
        ) from None
    try:
        return datetime.combine(day + timedelta(days=1), time.min, known).astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(text("{field}: that date is too far away", field=field)) from None
