"""What support does with dead letters: redrive, resolve, discard; each under lock, on record, with its actor."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas import answers
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, letters
from worker.models import DeadLetter, LetterCode, LetterState

log = structlog.get_logger(__name__)

REMEDIES: dict[LetterCode, dict[str, str]] = {
    LetterCode.PATHWAY_OWNED: {
        "override": "withdraw this enrolment although a Learning Pathway owns it; the pathway's others stay",
        "keep": "close the letter; the enrolment stays as it is",
        "redrive": "try again: withdraws it once the pathway no longer owns it",
        "discard": "close the letter without an answer",
    },
    LetterCode.UNKNOWN_STATUS: {
        "keep": "close the letter; the enrolment stays as it is",
        "redrive": "try again once the platform shows a status that is known",
        "discard": "close the letter without an answer",
    },
    LetterCode.INVALID_EVENT: {
        "discard": "close the letter; once corrected, the sender sends the event under a new id",
    },
}
_ANY = {
    "redrive": "try again; what is moot by then closes the letter",
    "discard": "close the letter without an answer",
}


def remedies(code: LetterCode) -> dict[str, str]:
    """The possible remedies for a letter, each with its consequence."""
    return REMEDIES.get(code, _ANY)


def document(letter: DeadLetter) -> answers.DeadLetter:
    """A letter as producers and support get it, with its remedies."""
    values = {field.name: getattr(letter, field.name) for field in dataclasses.fields(letter)}
    return answers.DeadLetter.model_validate({**values, "remedies": remedies(letter.code)})


def show(database: Database, *, organisation_id: int, letter_id: int) -> DeadLetter:
    """One letter with its history; the evidence has what was seen then and what the platform shows now.

    Raises:
        NotFoundError: there is no such letter in this organisation.
    """
    with database.begin() as connection:
        letter = letters.read(connection, organisation_id, letter_id)
        if letter is None:
            raise NotFoundError(f"there is no dead letter {letter_id} in this organisation")
        if letter.enrolment_id is not None:
            letter.evidence["now"] = letters.enrolment_now(connection, organisation_id, letter.enrolment_id)
    return letter


def redrive(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    actor: str,
    note: str | None = None,
) -> None:
    """Try again. Every job whose outcome refers to a letter gets a chunk; they are decided together.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
    """

    def act(connection: Connection) -> None:
        idle = set(letter_ids) - letters.redrive(connection, letter_ids, actor=actor, override=False)
        if idle:
            raise ConflictError(
                f"dead letter {min(idle)} has no work to try again: its sender corrects the event and sends it anew"
            )
        jobs.notify(connection)

    _act(database, organisation_id, letter_ids, actor, "dead_letter.redrive", note, act)


def resolve(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    remedy: str,
    actor: str,
    note: str,
) -> None:
    """Decide letters: `override` withdraws although a pathway owns the enrolment, `keep` leaves it.

    Raises:
        InvalidInputError: there is no note, or the remedy is not one for this kind of letter.
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
    """
    if remedy not in ("override", "keep"):
        raise InvalidInputError(
            f"remedy: {remedy[:40]!r} is none; give override or keep, or redrive or discard the letter"
        )
    if not note.strip():
        raise InvalidInputError("note: a remedy needs a note that says why")

    def act(connection: Connection) -> None:
        if remedy == "override":
            letters.redrive(connection, letter_ids, actor=actor, override=True)
            jobs.notify(connection)
        else:
            letters.close(connection, letter_ids, state=LetterState.RESOLVED, remedy=remedy, actor=actor)

    _act(database, organisation_id, letter_ids, actor, "dead_letter." + remedy, note, act, remedy=remedy)


def discard(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    actor: str,
    note: str | None = None,
) -> None:
    """Close letters without an answer; what was not done stays not done.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
    """

    def act(connection: Connection) -> None:
        letters.close(connection, letter_ids, state=LetterState.DISCARDED, remedy="discard", actor=actor)

    _act(database, organisation_id, letter_ids, actor, "dead_letter.discard", note, act)


def redrive_known_learners(database: Database) -> int:
    """Try letters of unknown learners again whose learner exists by now; how many."""
    with database.begin() as connection:
        known = letters.with_known_learner(connection)

    def work(connection: Connection, organisation_id: int, letter_ids: list[int]) -> int:
        letters.lock(connection, organisation_id, letter_ids)
        jobs.notify(connection)
        return len(letters.redrive(connection, letter_ids, actor="relay", override=False))

    return sum(
        database.run(partial(work, organisation_id=organisation_id, letter_ids=letter_ids))
        for organisation_id, letter_ids in known
    )


def _act(
    database: Database,
    organisation_id: int,
    letter_ids: Sequence[int],
    actor: str,
    action: str,
    note: str | None,
    act: Callable[[Connection], None],
    remedy: str | None = None,
) -> None:
    """Lock the letters, refuse what is missing or not open, act, and put one audit row per letter on record."""

    act_id = uuid4().hex

    def work(connection: Connection) -> None:
        rows = letters.lock(connection, organisation_id, letter_ids)
        if letters.acted(connection, letter_ids, act_id):
            return  # the answer to the first commit was lost
        missing = sorted(set(letter_ids) - {row.id for row in rows})
        if missing:
            raise NotFoundError(f"there is no dead letter {missing[0]} in this organisation")
        for row in rows:
            _refuse(row, remedy)
            detail = json.dumps({"code": row.code, "act": act_id})
            jobs.audit(
                connection,
                organisation_id=organisation_id,
                actor=actor,
                action=action,
                job_id=row.job_id,
                dead_letter_id=row.id,
                note=note,
                detail=detail,
            )
        act(connection)

    database.run(work)
    log.info(action, organisation_id=organisation_id, dead_letters=len(letter_ids))


def _refuse(row: Any, remedy: str | None) -> None:
    if row.state != LetterState.OPEN:
        why = "an attempt is in flight" if row.state == LetterState.REDRIVEN else f"it is {row.state}"
        raise ConflictError(f"dead letter {row.id} is not open: {why}")
    if remedy is not None and remedy not in REMEDIES.get(LetterCode(row.code), {}):
        known = ", ".join(name for name in remedies(LetterCode(row.code)) if name in ("override", "keep"))
        raise InvalidInputError(
            f"remedy: {remedy} is none for a letter {row.code}; " + (f"use {known}" if known else "redrive or discard")
        )
