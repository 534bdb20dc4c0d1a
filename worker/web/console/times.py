"""Days and times as people type them into forms, in the viewer's time zone."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from worker.errors import InvalidInputError
from worker.texts import text


def parse_day(given: str, name: str) -> date:
    """A day, as ISO 8601 writes it.

    Raises:
        InvalidInputError: it is not a day.
    """
    try:
        return date.fromisoformat(given)
    except ValueError:
        said = text("{field}: {given!r} is not a day. Give one such as 2026-03-01.", field=name, given=given[:40])
        raise InvalidInputError(said) from None


def parse_time(given: str, name: str, zone: ZoneInfo) -> datetime | None:
    """The time, in UTC, of a field that takes a day and a time together; None when it was left empty.

    Raises:
        InvalidInputError: it is not a time, or is outside the calendar.
    """
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except ValueError:
        raise InvalidInputError(text("{field}: give a day and a time, such as 2026-03-01T08:00.", field=name)) from None
    except OverflowError:
        raise InvalidInputError(text("{field}: that day is too far away.", field=name)) from None


def parse_day_and_time(day: str, at: str, zone: ZoneInfo) -> datetime | date:
    """The time, in UTC, of two fields. A day alone stays a date; the services take the end of it.

    Raises:
        InvalidInputError: names the field that is wrong.
    """
    found = parse_day(day, "day")
    if not at:
        return found
    try:
        clock = time.fromisoformat(at).replace(tzinfo=None)
    except ValueError:
        raise InvalidInputError(text("time: {given!r} is not a time. Give one such as 17:30.", given=at[:40])) from None
    try:
        return datetime.combine(found, clock, zone).astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(text("day: that day is too far away.")) from None


def parse_days(first: str, last: str, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """Exclusive bounds, in UTC, of all the time from day `first` to the end of day `last`; an empty one is open.

    Raises:
        InvalidInputError: one of them is not a day, or the last comes before the first.
    """
    begin, end = first and parse_day(first, "from"), last and parse_day(last, "to")
    if begin and end and end < begin:
        raise InvalidInputError(text("to: this day is before the day in `from`."))
    try:
        after = _midnight(begin, zone) - timedelta(microseconds=1) if begin else None
        before = _midnight(end + timedelta(days=1), zone) if end else None
    except OverflowError:
        raise InvalidInputError(text("from, to: that day is too far away.")) from None
    return after, before


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
