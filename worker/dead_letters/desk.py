"""The dead-letter desk, read: lists with the overdue first, what a list shows beside its letters, groups, overview."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import desk as wire
from schemas.dead_letters import LetterFilter, LetterOrder
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import diagnosis
from worker.errors import InvalidInputError
from worker.ids import LARGEST, next_cursor, parse_cursor
from worker.ledger import desk, letter_counts, letter_neighbours
from worker.ledger.desk import PageEnd
from worker.ledger.letter_counts import CodeCounts
from worker.ledger.letter_filter import Targets
from worker.ledger.letter_lists import find_letters
from worker.ledger.letter_neighbours import Neighbours
from worker.records import DeadLetter
from worker.texts import text

COUNTED = 10_000
"""What a page counts letters to. A number of one more stands for "more than that"."""
COUNTED_ALIKE = 1_000
"""The same for the letters that are like each of a list."""


@dataclass(frozen=True, slots=True)
class LetterPage:
    """A page of letters."""

    items: list[DeadLetter]
    next_cursor: str | None


def list_letters(
    database: Database,
    settings: Settings,
    organisation_id: int,
    wanted: LetterFilter,
    *,
    cursor: str | None = None,
    limit: int = 50,
    sort: LetterOrder = "due",
) -> LetterPage:
    """Letters that match: live ones by the time at which they are overdue, the longest overdue first; then closed ones.

    `sort`: or all by their numbers.

    A page goes on from a place in that order, which does not move as time passes: nothing is shown twice or left
    out because it became overdue meanwhile.

    Raises:
        InvalidInputError: the service did not make this cursor.
    """
    if sort != "due":
        return _list_by_number(database, organisation_id, wanted, cursor=cursor, limit=limit, sort=sort)
    after = _parse_cursor(cursor) if cursor is not None else None
    targets = settings.letter_targets
    with database.begin() as connection:
        found, end = desk.list_letters(connection, organisation_id, wanted, targets, after=after, limit=limit)
    return LetterPage(found, _cursor(end) if end else None)


def _list_by_number(
    database: Database, organisation_id: int, wanted: LetterFilter, *, cursor: str | None, limit: int, sort: LetterOrder
) -> LetterPage:
    with database.begin() as connection:
        found = desk.list_by_number(
            connection,
            organisation_id,
            wanted,
            last=parse_cursor(cursor),
            limit=limit,
            oldest_first=sort == "oldest",
        )
    return LetterPage(found, next_cursor(found, limit))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _cursor(end: PageEnd) -> str:
    """`closed-` or the microseconds since 1970 at which the letter is overdue, then its id."""
    if end.due_at is None:
        return f"closed-{end.id}"
    return f"{(end.due_at - _EPOCH) // timedelta(microseconds=1)}-{end.id}"


def _parse_cursor(cursor: str) -> PageEnd:
    found = re.fullmatch(r"(closed|[0-9]{1,18})-([1-9][0-9]{0,18})", cursor)
    try:
        if found and int(found[2]) <= LARGEST:
            due_at = None if found[1] == "closed" else _EPOCH + timedelta(microseconds=int(found[1]))
            return PageEnd(due_at, int(found[2]))
    except OverflowError:
        pass
    raise InvalidInputError(text("cursor: not a cursor of this list. Leave it out to start at the first page."))


def count_overdue(database: Database, settings: Settings, organisation_id: int, wanted: LetterFilter) -> int:
    """How many of the letters that match are overdue; `COUNTED` + 1 stands for more than `COUNTED`."""
    with database.begin() as connection:
        return letter_counts.count_overdue(
            connection, organisation_id, wanted, settings.letter_targets, most=COUNTED + 1
        )


def parse_older_than(given: str) -> str:
    """A time (RFC 3339) from "opened before": an age such as `36h` or `3d` counts from now, a time stays as it is.

    Raises:
        InvalidInputError: the age is longer than times go back.
    """
    age = re.fullmatch(r"([0-9]{1,6})([hd])", given)
    if age is None:
        return given
    try:
        return (datetime.now(UTC) - timedelta(hours=int(age[1]) * (24 if age[2] == "d" else 1))).isoformat()
    except OverflowError:
        raise InvalidInputError(text("older_than: this age is too long. Give a shorter age or a time.")) from None


@dataclass(frozen=True, slots=True)
class ListContext:
    """What a list shows beside its letters; numbers are at most `COUNTED` + 1, which is "more than `COUNTED`"."""

    letters: dict[int, dict[str, Any]]
    """By letter: `learner_external_id`, `learner_name`, `series_code`, `series_title`, `status`, `reason` (of the
    opener's request), `alike`.

    Those alike are counted to `COUNTED_ALIKE`.
    """
    matching: int
    live: int
    assignees: list[str]


def find_letter_context(database: Database, letter: DeadLetter) -> dict[str, Any]:
    """Whom one letter is about, as in `ListContext.letters`."""
    return find_subjects(database, letter.organisation_id, [letter.id])[letter.id]


def count_others_in_pathway(database: Database, organisation_id: int, letter_ids: Sequence[int]) -> dict[int, int]:
    """By letter how many other enrolments its learner has in the pathway that owns the enrolment."""
    with database.begin() as connection:
        return desk.count_others_in_pathway(connection, organisation_id, letter_ids)


def find_subjects(database: Database, organisation_id: int, letter_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Whom each of these letters is about, as in `ListContext.letters`."""
    with database.begin() as connection:
        return desk.find_context(connection, organisation_id, letter_ids, most=COUNTED_ALIKE + 1)


def find_context(
    database: Database, organisation_id: int, wanted: LetterFilter, found: Sequence[DeadLetter]
) -> ListContext:
    """Whom the letters of a list are about, how many match in all, and who looks after letters."""
    with database.begin() as connection:
        counted = [
            letter_counts.count_letters(connection, organisation_id, wanted, live=live, most=COUNTED + 1)
            for live in (False, True)
        ]
        return ListContext(
            desk.find_context(connection, organisation_id, [letter.id for letter in found], most=COUNTED_ALIKE + 1),
            matching=counted[0],
            live=counted[1],
            assignees=letter_counts.list_assignees(connection, organisation_id, most=100),
        )


def count_live(database: Database, organisation_id: int, wanted: LetterFilter) -> int:
    """How many of the letters that match are not closed; `COUNTED` + 1 stands for more than `COUNTED`."""
    with database.begin() as connection:
        return letter_counts.count_letters(connection, organisation_id, wanted, live=True, most=COUNTED + 1)


def find_neighbours(
    database: Database, settings: Settings, organisation_id: int, wanted: LetterFilter, letter: DeadLetter
) -> Neighbours:
    """The letters before and after one, in the order of `list_letters`."""
    with database.begin() as connection:
        return letter_neighbours.find_neighbours(
            connection,
            organisation_id,
            wanted,
            settings.letter_targets,
            letter_id=letter.id,
            code=letter.code,
            opened_at=letter.opened_at,
        )


def groups(
    database: Database, settings: Settings, organisation_id: int, wanted: LetterFilter, *, limit: int = 100
) -> wire.Groups:
    """Letters that match by fingerprint, those with most live ones first."""
    with database.begin() as connection:
        causes = letter_counts.group_letters(connection, organisation_id, wanted, settings.letter_targets, limit=limit)
        samples = find_letters(connection, organisation_id, [cause.sample for cause in causes.items])
    sentences = {letter.id: diagnosis.describe_cause(letter) for letter in samples}
    items = [
        wire.Group(**{name: getattr(cause, name) for name in cause.__slots__}, sentence=sentences[cause.sample])
        for cause in causes.items
    ]
    return wire.Groups(
        items=items,
        groups=causes.found,
        letters=causes.letters,
        counted_to=causes.counted_to,
        at_least=causes.at_least,
    )


def overview(database: Database, settings: Settings, organisation_id: int) -> wire.Overview:
    """All live letters by code and age; overdue ones counted. Those with most overdue ones first."""
    targets = settings.letter_targets
    with database.begin() as connection:
        by_code = letter_counts.count_by_code(connection, organisation_id, targets, most=COUNTED + 1)
    items = sorted(
        (_of_code(counts, targets) for counts in by_code), key=lambda item: (-item.overdue, -item.live, item.code)
    )
    return wire.Overview(
        live=sum(min(item.live, COUNTED) for item in items),
        overdue=sum(min(item.overdue, COUNTED) for item in items),
        unassigned=sum(min(item.unassigned, COUNTED) for item in items),
        items=items,
        counted_to=COUNTED,
        at_least=any(item.live > COUNTED for item in items),
    )


def _of_code(counts: CodeCounts, targets: Targets) -> wire.CodeOverview:
    ages = {age: getattr(counts, age) for age in ("day", "week", "month", "older")}
    return wire.CodeOverview(
        code=counts.code,
        live=min(sum(ages.values()), COUNTED + 1),
        overdue=counts.overdue,
        unassigned=counts.unassigned,
        oldest=counts.oldest,
        target_hours=targets[counts.code] / timedelta(hours=1),
        ages=ages,
    )
