"""Ids and cursors as text: the one place that reads them, for the API, the command line, pages and files."""

from collections.abc import Sequence
from typing import Any

from worker.errors import InvalidInputError
from worker.texts import text

LARGEST = 2**63 - 1
"""PostgreSQL's largest `bigint`."""


def parse_id(given: str, name: str) -> int:
    """A row's id from decimal digits; spaces around them and leading zeros are allowed.

    `name`: the field, the column or the option, for the message.

    Raises:
        InvalidInputError: it is not a whole number from 1 to 9,223,372,036,854,775,807.
    """
    stripped = given.strip()
    digits = stripped.lstrip("0")
    if not (stripped.isascii() and stripped.isdigit() and 0 < len(digits) < 20 and int(digits) <= LARGEST):
        raise InvalidInputError(
            text("{name}: {given!r} is not a positive whole number", name=name, given=stripped[:40])
        )
    return int(digits)


def parse_cursor(cursor: str | None) -> int | None:
    """The id that a list by falling id goes on from, None for the first page.

    Raises:
        InvalidInputError: the service did not make this cursor.
    """
    return None if cursor is None else _cursor_id(cursor)


def parse_pair_cursor(cursor: str | None) -> tuple[int, int] | None:
    """The two ids, as in `7-23`, that a list by two falling ids goes on from. None for the first page.

    Raises:
        InvalidInputError: the service did not make this cursor.
    """
    if cursor is None:
        return None
    first, _, second = cursor.partition("-")
    return _cursor_id(first), _cursor_id(second)


def next_cursor(items: Sequence[Any], limit: int, *keys: str) -> str | None:
    """The cursor of the next page of a list by falling id, None after the last page.

    `keys`: the attributes that the list is ordered by, `id` if none is given.
    """
    if len(items) < limit:
        return None
    return "-".join(str(getattr(items[-1], key)) for key in keys or ("id",))


def _cursor_id(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 20 and 0 < int(given) <= LARGEST):
        raise InvalidInputError(text("cursor: not a cursor of this list. Leave it out to start at the first page."))
    return int(given)
