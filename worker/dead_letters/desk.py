"""The dead-letter desk: lists with the overdue first, groups, assignment and notes for one letter or all that match."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas import desk as wire
from schemas.dead_letters import LetterFilter
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import diagnosis
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import dead_letters, desk, jobs
from worker.ledger.desk import Batch, Place
from worker.records import DeadLetter

log = structlog.get_logger(__name__)

BATCH = 5000
"""Letters that one transaction assigns or puts a note beside."""
COUNTED = 10_000
"""Letters that a page counts at the most; beyond, it says "more than"."""


@dataclass(frozen=True, slots=True)
class Listed:
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
) -> Listed:
    """Letters that match: live ones by the time at which they are overdue, the longest overdue first; then closed ones.

    A page goes on from a place in that order, which no passing of time moves: nothing is shown twice or left
    out because it became overdue meanwhile.

    Raises:
        InvalidInputError: the cursor is none that a page gave.
    """
    after = _place(cursor) if cursor is not None else None
    with database.begin() as connection:
        found, last = desk.page(connection, organisation_id, wanted, settings.letter_targets, after=after, limit=limit)
    return Listed(found, _cursor(last) if last else None)


def count_overdue(database: Database, settings: Settings, organisation_id: int, wanted: LetterFilter) -> int:
    """How many of the letters that match are overdue."""
    with database.begin() as connection:
        return desk.count_overdue(connection, organisation_id, wanted, settings.letter_targets)


def moment(given: str) -> str:
    """What a person gives for "opened before": an age such as `36h` or `3d` becomes a time, a time stays as it is.

    Raises:
        InvalidInputError: no time is so long ago.
    """
    age = re.fullmatch(r"([0-9]{1,6})([hd])", given)
    if age is None:
        return given
    try:
        return (datetime.now(UTC) - timedelta(hours=int(age[1]) * (24 if age[2] == "d" else 1))).isoformat()
    except OverflowError:
        raise InvalidInputError("older_than: that is too long ago") from None


@dataclass(frozen=True, slots=True)
class Around:
    """What a list shows beside its letters; numbers are at most `COUNTED` + 1, which is "more than `COUNTED`"."""

    letters: dict[int, dict[str, Any]]
    """By letter: `learner_external_id`, `learner_name`, `series_code`, `series_title`, `status`, `alike`."""
    matching: int
    live: int
    assignees: list[str]


def around_one(database: Database, letter: DeadLetter) -> dict[str, Any]:
    """Whom one letter is about, as in `Around.letters`."""
    with database.begin() as connection:
        return desk.around(connection, letter.organisation_id, [letter.id], most=COUNTED + 1)[letter.id]


def around(database: Database, organisation_id: int, wanted: LetterFilter, found: Sequence[DeadLetter]) -> Around:
    """Whom the letters of a list are about, how many match in all, and who looks after letters."""
    most = COUNTED + 1
    with database.begin() as connection:
        return Around(
            desk.around(connection, organisation_id, [letter.id for letter in found], most=most),
            matching=desk.count(connection, organisation_id, wanted, live=False, most=most),
            live=desk.count(connection, organisation_id, wanted, live=True, most=most),
            assignees=desk.assignees(connection, organisation_id, most=100),
        )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _cursor(place: Place) -> str:
    if place.due_at is None:
        return f"closed-{place.id}"
    return f"{(place.due_at - _EPOCH) // timedelta(microseconds=1)}-{place.id}"


def _place(cursor: str) -> Place:
    found = re.fullmatch(r"(closed|[0-9]{1,18})-([1-9][0-9]{0,18})", cursor)
    try:
        if found and int(found[2]) < 2**63:
            due_at = None if found[1] == "closed" else _EPOCH + timedelta(microseconds=int(found[1]))
            return Place(due_at, int(found[2]))
    except OverflowError:
        pass
    raise InvalidInputError("cursor: is none that a page gave; leave it out to begin at the first")


def groups(
    database: Database, settings: Settings, organisation_id: int, wanted: LetterFilter, *, limit: int = 100
) -> wire.Groups:
    """Letters that match by fingerprint, those with most live ones first."""
    with database.begin() as connection:
        found, number, of_letters = desk.groups(
            connection, organisation_id, wanted, settings.letter_targets, limit=limit
        )
        samples = {item.id: item for item in dead_letters.these(connection, organisation_id, [g.sample for g in found])}
    items = [
        wire.Group(
            **{name: getattr(group, name) for name in group.__slots__}, sentence=diagnosis.kind(samples[group.sample])
        )
        for group in found
    ]
    return wire.Groups(items=items, groups=number, letters=of_letters)


def overview(database: Database, settings: Settings, organisation_id: int) -> wire.Overview:
    """All live letters by code and age; overdue ones counted."""
    targets = settings.letter_targets
    with database.begin() as connection:
        rows = desk.overview(connection, organisation_id, targets)
    items = [
        wire.CodeOverview(
            **{name: row[name] for name in ("code", "live", "overdue", "unassigned", "oldest")},
            target_hours=targets[row["code"]] / timedelta(hours=1),
            ages={
                "day": row["day"],
                "week": row["week"] - row["day"],
                "month": row["month"] - row["week"],
                "older": row["live"] - row["month"],
            },
        )
        for row in rows
    ]
    return wire.Overview(
        live=sum(item.live for item in items), overdue=sum(item.overdue for item in items), items=items
    )


def assign(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    assignee: str | None,
    actor: str,
    note: str | None = None,
) -> wire.Acted:
    """Let somebody look after letters (None: nobody). The last one to say so has their way; all is on record.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is closed.
    """

    def begin(connection: Connection) -> None:
        for row in dead_letters.lock(connection, organisation_id, letter_ids):
            if row.state not in ("open", "redriven"):
                raise ConflictError(f"dead letter {row.id} is {row.state}: nobody needs to look after it any more")

    selection = desk.chosen(organisation_id, letter_ids)
    act = partial(desk.assign, selection=selection, assignee=assignee)
    return _these(database, organisation_id, letter_ids, act, "assign", begin, actor=actor, note=note)


def assign_all(
    database: Database,
    *,
    organisation_id: int,
    wanted: LetterFilter,
    assignee: str | None,
    actor: str,
    note: str | None = None,
) -> wire.Acted:
    """Let somebody look after all live letters that match now, however many; closed ones are left as they are."""
    act = partial(desk.assign, selection=desk.matching(organisation_id, wanted), assignee=assignee)
    return _all(database, organisation_id, act, "assign", actor=actor, note=note)


def note(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    note: str,
    actor: str,
    key: str | None = None,
) -> wire.Acted:
    """Put a note beside letters, live or closed; with a key once, however often it is sent.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
    """

    def act(connection: Connection, **batch: Any) -> Batch:
        if key is not None:
            dead_letters.lock(connection, organisation_id, letter_ids)
            if dead_letters.acted(connection, letter_ids, key):
                return Batch(matched=len(letter_ids), changed=0, last=None)
            batch["act"] = key
        return desk.note(connection, desk.chosen(organisation_id, letter_ids), **batch)

    return _these(database, organisation_id, letter_ids, act, "note", lambda _: None, actor=actor, note=note)


def note_all(database: Database, *, organisation_id: int, wanted: LetterFilter, note: str, actor: str) -> wire.Acted:
    """Put a note beside all letters that match now."""
    act = partial(desk.note, selection=desk.matching(organisation_id, wanted))
    return _all(database, organisation_id, act, "note", actor=actor, note=note)


def _these(
    database: Database,
    organisation_id: int,
    letter_ids: Sequence[int],
    act: Callable[..., Batch],
    what: str,
    begin: Callable[[Connection], None],
    *,
    actor: str,
    note: str | None,
) -> wire.Acted:
    act_id, mark = uuid4().hex, _mark(database)

    def work(connection: Connection) -> Batch:
        known = desk.recorded(connection, act_id, since=mark[0])
        if known is not None:
            return known  # the answer to the first commit was lost
        begin(connection)
        batch = act(connection, actor=actor, act=act_id, note=note, after=0, ceiling=2**63 - 1, most=len(letter_ids))
        if batch.matched < len(set(letter_ids)):
            there = {item.id for item in dead_letters.these(connection, organisation_id, letter_ids)}
            missing = sorted(set(letter_ids) - there)
            raise NotFoundError(f"there is no dead letter {missing[0]} in this organisation")
        return batch

    done = database.run(work)
    _log(what, organisation_id, done.changed)
    return wire.Acted(matched=done.matched, changed=done.changed)


def _all(
    database: Database,
    organisation_id: int,
    act: Callable[..., Batch],
    what: str,
    *,
    actor: str,
    note: str | None,
) -> wire.Acted:
    """Batch after batch in id order, up to the last letter there was at the beginning; each once."""
    act_id = uuid4().hex
    mark, ceiling = _mark(database)
    matched = changed = after = number = 0
    while True:
        number += 1

        def work(connection: Connection, act_id: str, after: int) -> Batch:
            known = desk.recorded(connection, act_id, since=mark)
            return known or act(
                connection, actor=actor, act=act_id, note=note, after=after, ceiling=ceiling, most=BATCH
            )

        batch = database.run(partial(work, act_id=f"{act_id}.{number}", after=after))
        matched, changed = matched + batch.matched, changed + batch.changed
        if batch.last is None:
            break
        after = batch.last
    _log(what, organisation_id, changed)
    return wire.Acted(matched=matched, changed=changed)


def _mark(database: Database) -> tuple[int, int]:
    with database.begin() as connection:
        return desk.mark(connection)


def _log(what: str, organisation_id: int, letters_changed: int) -> None:
    log.info(f"dead_letter.{what}", organisation_id=organisation_id, dead_letters=letters_changed)


def strip(database: Database, settings: Settings) -> int:
    """Drop the evidence of letters closed for as long as it is kept; how many (at most a batch)."""
    return database.run(partial(desk.strip, keep=timedelta(days=settings.letter_keep_days)))


def tell_overdue(database: Database, settings: Settings) -> int:
    """Let webhooks tell of letters that have become overdue, once each; how many (at most a batch)."""

    def work(connection: Connection) -> int:
        told = desk.tell_overdue(connection, settings.letter_targets)
        if told:
            jobs.notify(connection)
        return told

    return database.run(work)
