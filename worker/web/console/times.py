"""Times as people type them into forms: a day and, if it matters, a time of it, in the viewer's zone."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from worker.errors import InvalidInputError


def when(day: str, at: str, zone: ZoneInfo) -> datetime | date:
    """The moment of a day and a time; a day alone is a date, which the services take for its end.

    Raises:
        InvalidInputError: it is none; names what is wrong.
    """
    found = a_day(day, "day")
    if not at:
        return found
    try:
        return datetime.combine(found, time.fromisoformat(at).replace(tzinfo=None), zone).astimezone(UTC)
    except ValueError:
        raise InvalidInputError(f"time: {at!r} is none, such as 17:30") from None
    except OverflowError:
        raise InvalidInputError("day: that is too far away") from None


def a_day(value: str, name: str) -> date:
    """A day (ISO 8601).

    Raises:
        InvalidInputError: it is none.
    """
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InvalidInputError(f"{name}: {value!r} is none, such as 2026-03-01") from None


def around(first: str, last: str, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """Bounds, both exclusive, around all of the days from `first` to `last` in the zone; an empty one is open.

    Raises:
        InvalidInputError: one of them is no day, or they are the wrong way round.
    """
    begin, end = first and a_day(first, "from"), last and a_day(last, "to")
    if begin and end and end < begin:
        raise InvalidInputError("to: is before from")
    try:
        after = _midnight(begin, zone) - timedelta(microseconds=1) if begin else None
        before = _midnight(end + timedelta(days=1), zone) if end else None
    except OverflowError:
        raise InvalidInputError("from, to: that day is too far away") from None
    return after, before


def moment(given: str, zone: ZoneInfo) -> datetime | None:
    """The moment of a field that takes a day and a time together; empty is none.

    Raises:
        InvalidInputError: it is none, or too far away.
    """
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except ValueError:
        raise InvalidInputError("not before: give a day and a time such as 2026-03-01T08:00") from None
    except OverflowError:
        raise InvalidInputError("not before: that day is too far away") from None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
