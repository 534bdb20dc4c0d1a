"""What support does with dead letters: redrive, resolve, discard; each under lock, on record, with its actor."""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas import answers
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import jobs, letters, runs
from worker.models import DeadLetter, LetterCode, LetterState
from worker.submit import Requester, insert_support_job

log = structlog.get_logger(__name__)

REMEDIES: dict[LetterCode, dict[str, str]] = {
    LetterCode.PATHWAY_OWNED: {
        "override": "withdraw this enrolment although a Learning Pathway owns it; the pathway's others stay",
        "cascade": "withdraw this enrolment and the learner's other active ones in the pathway",
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
        "keep": "close the letter: the event was taken care of, or needs nothing",
        "discard": "close the letter; once corrected, the sender sends the event under a new id",
    },
}
BY_REMEDY = ("override", "cascade", "keep")
"""Acts that `resolve` takes; each needs a note."""
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
        InvalidInputError: there is nothing to try.
    """
    _act(database, organisation_id, letter_ids, actor, "redrive", note)


def resolve(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    remedy: str,
    actor: str,
    note: str,
) -> None:
    """Decide letters.

    `override` withdraws although a pathway owns the enrolment, `cascade` the learner's other active enrolments in
    the pathway as well (a job of source `support` for each letter that has any), `keep` leaves it.

    Raises:
        InvalidInputError: there is no note, or the remedy is not one for this kind of letter.
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
    """
    if remedy not in BY_REMEDY:
        raise InvalidInputError(
            f"remedy: {remedy[:40]!r} is none; give {', '.join(BY_REMEDY)}, or redrive or discard the letter"
        )
    if not note.strip():
        raise InvalidInputError("note: a remedy needs a note that says why")
    _act(database, organisation_id, letter_ids, actor, remedy, note)


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
    _act(database, organisation_id, letter_ids, actor, "discard", note)


def act_on_locked(
    connection: Connection,
    organisation_id: int,
    letter_ids: Sequence[int],
    *,
    act: str,
    act_id: str,
    actor: str,
    note: str | None,
) -> None:
    """Do one act to locked, open letters and put it on record, in the caller's transaction.

    `act_id` makes the keys of a cascade's jobs: the same act again makes no second job.
    """
    detail = json.dumps({"act": act_id})
    letters.audit_all(connection, letter_ids, actor=actor, action=f"dead_letter.{act}", note=note, detail=detail)
    match act:
        case "redrive":
            letters.redrive(connection, letter_ids, actor=actor)
        case "override":
            letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case "cascade":
            for found in runs.siblings(connection, letter_ids):
                who = Requester(organisation_id, actor, "api", f"cascade:{act_id}:{found.letter_id}")
                insert_support_job(connection, who, reason=found.reason, note=note, ids=found.ids)
            letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case "keep":
            letters.close(connection, letter_ids, state=LetterState.RESOLVED, remedy=act, actor=actor)
        case "discard":
            letters.close(connection, letter_ids, state=LetterState.DISCARDED, remedy=act, actor=actor)
    jobs.notify(connection)


def codes_of(act: str) -> list[str] | None:
    """The kinds of letters that an act is for; None: all."""
    if act == "discard":
        return None
    return [code for code in LetterCode if act in remedies(code)]


def redrive_known_learners(database: Database) -> int:
    """Try letters of unknown learners again whose learner exists by now; how many."""
    with database.begin() as connection:
        known = letters.with_known_learner(connection)

    def work(connection: Connection, organisation_id: int, letter_ids: list[int]) -> int:
        letters.lock(connection, organisation_id, letter_ids)
        jobs.notify(connection)
        return len(letters.redrive(connection, letter_ids, actor="relay"))

    return sum(
        database.run(partial(work, organisation_id=organisation_id, letter_ids=letter_ids))
        for organisation_id, letter_ids in known
    )


def _act(
    database: Database, organisation_id: int, letter_ids: Sequence[int], actor: str, act: str, note: str | None
) -> None:
    """Lock the letters, refuse what is missing, not open or not for this act, and do it."""
    act_id = uuid4().hex

    def work(connection: Connection) -> None:
        jobs.lock_settings(connection, organisation_id)  # before letters: a cascade admits a job
        rows = letters.lock(connection, organisation_id, letter_ids)
        if letters.acted(connection, letter_ids, act_id):
            return  # the answer to the first commit was lost
        missing = sorted(set(letter_ids) - {row.id for row in rows})
        if missing:
            raise NotFoundError(f"there is no dead letter {missing[0]} in this organisation")
        for row in rows:
            _refuse(row, act)
        act_on_locked(
            connection, organisation_id, [row.id for row in rows], act=act, act_id=act_id, actor=actor, note=note
        )

    database.run(work)
    log.info(f"dead_letter.{act}", organisation_id=organisation_id, dead_letters=len(letter_ids))


def _refuse(row: Any, act: str) -> None:
    if row.state != LetterState.OPEN:
        why = "an attempt is in flight" if row.state == LetterState.REDRIVEN else f"it is {row.state}"
        raise ConflictError(f"dead letter {row.id} is not open: {why}")
    known = remedies(LetterCode(row.code))
    if act not in known:
        raise InvalidInputError(f"remedy: {act} is none for a letter {row.code}; use {', '.join(known)}")
