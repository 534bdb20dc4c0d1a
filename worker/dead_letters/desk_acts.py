"""What the desk does without deciding a letter: assignees and notes, for some or for all that match; upkeep."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas import desk as wire
from schemas.catalogue import LetterState
from schemas.dead_letters import LetterFilter
from worker.code_words import said
from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, NotFoundError
from worker.ledger import dead_letters, desk_acts, letter_counts, members
from worker.ledger.desk_acts import Done, Part
from worker.ledger.letter_lists import find_letters
from worker.texts import text

log = structlog.get_logger(__name__)

BATCH = 5000
"""Letters that one transaction assigns or puts a note beside."""

_MOST_NAMES = 200

DoPart = Callable[[Connection, Part], Done]
"""One transaction of an act."""


def list_names(database: Database, organisation_id: int) -> list[str]:
    """Names to choose an assignee from: who may act, and who looks after letters already."""
    with database.begin() as connection:
        acting = members.list_who_may_act(connection, organisation_id, most=_MOST_NAMES)
        assigned = letter_counts.list_assignees(connection, organisation_id, most=_MOST_NAMES)
    return sorted({*acting, *assigned})


def assign(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    assignee: str | None,
    actor: str,
    note: str | None = None,
) -> wire.Acted:
    """Let somebody look after letters (None: nobody). Of two people the later one stands; both are on record.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is closed.
    """
    selection = desk_acts.by_ids(organisation_id, letter_ids)

    def do(connection: Connection, part: Part) -> Done:
        for letter in dead_letters.lock_letters(connection, organisation_id, letter_ids):
            if letter.state in (LetterState.RESOLVED, LetterState.DISCARDED):
                raise ConflictError(
                    text(
                        "letter {letter_id} is {state}: only an open letter has an assignee",
                        letter_id=letter.id,
                        state=said(letter.state),
                    )
                )
        return desk_acts.assign(connection, selection, assignee, part)

    return _do_to_some(database, organisation_id, letter_ids, "assign", do, actor=actor, note=note)


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
    selection = desk_acts.by_filter(organisation_id, wanted)

    def do(connection: Connection, part: Part) -> Done:
        return desk_acts.assign(connection, selection, assignee, part)

    return _do_to_all(database, organisation_id, "assign", do, actor=actor, note=note)


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
    selection = desk_acts.by_ids(organisation_id, letter_ids)

    def do(connection: Connection, part: Part) -> Done:
        if key is not None:
            dead_letters.lock_letters(connection, organisation_id, letter_ids)
            if dead_letters.is_on_record(connection, letter_ids, key):
                return Done(matched=len(letter_ids), changed=0, last=None)
            part = replace(part, act_id=key)
        return desk_acts.note(connection, selection, part)

    return _do_to_some(database, organisation_id, letter_ids, "note", do, actor=actor, note=note)


def note_all(database: Database, *, organisation_id: int, wanted: LetterFilter, note: str, actor: str) -> wire.Acted:
    """Put a note beside all letters that match now."""
    selection = desk_acts.by_filter(organisation_id, wanted)

    def do(connection: Connection, part: Part) -> Done:
        return desk_acts.note(connection, selection, part)

    return _do_to_all(database, organisation_id, "note", do, actor=actor, note=note)


def drop_evidence(database: Database, settings: Settings) -> int:
    """Drop the evidence of letters that were closed longer ago than it is kept; how many (at most a batch)."""
    return database.run(partial(desk_acts.drop_evidence, keep=timedelta(days=settings.letter_keep_days)))


def announce_overdue(database: Database, settings: Settings) -> int:
    """Send webhooks about letters that have become overdue, once each; how many (at most a batch)."""

    def work(connection: Connection) -> int:
        announced = desk_acts.announce_overdue(connection, settings.letter_targets)
        if announced:
            notify_after_commit(connection)
        return announced

    return database.run(work)


def _do_to_some(
    database: Database,
    organisation_id: int,
    letter_ids: Sequence[int],
    what: str,
    do: DoPart,
    *,
    actor: str,
    note: str | None,
) -> wire.Acted:
    """All of them in one transaction, or none."""
    part = Part(actor=actor, act_id=uuid4().hex, note=note, most=len(letter_ids))
    last_audit, _ = _find_bounds(database)

    def work(connection: Connection) -> Done:
        known = desk_acts.find_done(connection, part.act_id, since=last_audit)
        if known is not None:
            return known  # the answer to the first commit was lost
        done = do(connection, part)
        if done.matched < len(set(letter_ids)):
            there = {letter.id for letter in find_letters(connection, organisation_id, letter_ids)}
            missing = sorted(set(letter_ids) - there)
            raise NotFoundError(text("there is no dead letter {letter_id} in this organisation", letter_id=missing[0]))
        return done

    done = database.run(work)
    _log(what, organisation_id, done.changed)
    return wire.Acted(matched=done.matched, changed=done.changed)


def _do_to_all(
    database: Database, organisation_id: int, what: str, do: DoPart, *, actor: str, note: str | None
) -> wire.Acted:
    """Batch after batch in id order, up to the last letter there was at the beginning; each once."""
    act_id = uuid4().hex
    last_audit, ceiling = _find_bounds(database)
    matched = changed = after = number = 0
    while True:
        number += 1
        part = Part(actor=actor, act_id=f"{act_id}.{number}", note=note, after=after, ceiling=ceiling, most=BATCH)
        done = database.run(partial(_do_part, do=do, part=part, since=last_audit))
        matched, changed = matched + done.matched, changed + done.changed
        if done.last is None:
            break
        after = done.last
    _log(what, organisation_id, changed)
    return wire.Acted(matched=matched, changed=changed)


def _do_part(connection: Connection, *, do: DoPart, part: Part, since: int) -> Done:
    """One batch; a repetition after a lost answer finds what it has done."""
    return desk_acts.find_done(connection, part.act_id, since=since) or do(connection, part)


def _find_bounds(database: Database) -> tuple[int, int]:
    with database.begin() as connection:
        return desk_acts.find_bounds(connection)


def _log(what: str, organisation_id: int, letters_changed: int) -> None:
    log.info(f"dead_letter.{what}", organisation_id=organisation_id, dead_letters=letters_changed)
