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
from schemas.catalogue import LetterCode, LetterState
from worker.config import settings
from worker.database import Database
from worker.dead_letters import diagnosis, timeline
from worker.errors import BrakeError, ConflictError, InvalidInputError, NotFoundError
from worker.jobs.admission import count_or_refuse
from worker.jobs.submit import Requester, accept_cascade
from worker.ledger import dead_letters, decision_receipts, jobs, runs
from worker.records import DeadLetter, Role

log = structlog.get_logger(__name__)

_DISCARD = "closes the letter without an answer; what was not done stays not done"
_KEEP = "closes the letter; the enrolment stays as it is"
REMEDIES: dict[LetterCode, dict[str, str]] = {
    LetterCode.PATHWAY_OWNED: {
        "override": "withdraws this enrolment although a Learning Pathway owns it; the pathway's others stay",
        "cascade": "withdraws this enrolment and the learner's other active ones in the pathway",
        "keep": _KEEP,
        "redrive": "tries again: withdraws it once the pathway no longer owns it",
        "discard": _DISCARD,
    },
    LetterCode.UNKNOWN_STATUS: {
        "keep": _KEEP,
        "redrive": "tries again: withdraws it once the platform shows a status that is known",
        "discard": _DISCARD,
    },
    LetterCode.INVALID_EVENT: {
        "discard": "closes the letter; once corrected, the sender sends the event under a new id",
    },
}
BY_REMEDY = ("override", "cascade", "keep")
"""Acts that `resolve` takes; each needs a note."""
ATTEMPTS = ("redrive", "override", "cascade")
"""Acts that make an attempt, and count for the brake; the others close."""
ROLES = dict.fromkeys(("redrive", "keep", "discard", "assign", "note"), Role.OPERATOR)
"""The role that an act needs; one that is not here needs an approver."""
_ANY = {"redrive": "tries again; what is moot by then closes the letter", "discard": _DISCARD}


def remedies(code: LetterCode) -> dict[str, str]:
    """The possible remedies for a letter of a code, each with its consequence."""
    return REMEDIES.get(code, _ANY)


def acts_on(code: str | None) -> list[str]:
    """The acts that there are for letters of a code; None: of any."""
    return list(remedies(LetterCode(code))) if code else ["redrive", *BY_REMEDY, "discard"]


def role_for(act: str) -> Role:
    """The role that somebody needs for an act on letters."""
    return ROLES.get(act, Role.APPROVER)


def document(letter: DeadLetter) -> answers.DeadLetter:
    """A letter as producers and support get it: its diagnosis, and the remedies with what they would do to it."""
    values = {field.name: getattr(letter, field.name) for field in dataclasses.fields(letter)}
    due_at = letter.opened_at + settings().letter_targets[letter.code] if letter.is_live else None
    return answers.DeadLetter.model_validate(
        {
            **values,
            "diagnosis": diagnosis.diagnose(letter),
            "remedies": diagnosis.remedies(letter, remedies(letter.code)),
            "due_at": due_at,
            "overdue": due_at is not None and due_at < letter.read_at,
        }
    )


def show(database: Database, *, organisation_id: int, letter_id: int) -> DeadLetter:
    """One letter with its history and what stands around it: its request, its likes, what the platform shows now.

    Raises:
        NotFoundError: there is no such letter in this organisation.
    """
    with database.begin() as connection:
        letter = dead_letters.read(connection, organisation_id, letter_id)
        if letter is None:
            raise NotFoundError(f"there is no dead letter {letter_id} in this organisation")
        if letter.enrolment_id is not None:
            letter.evidence["now"] = dead_letters.enrolment_now(connection, organisation_id, letter.enrolment_id)
        elif letter.learner_external_id is not None:
            letter.evidence["now"] = decision_receipts.person(connection, organisation_id, letter.learner_external_id)
        elif "event_id" in letter.evidence:
            door, key = f"hr:{letter.evidence['source']}", letter.evidence["event_id"]
            letter.evidence.update(decision_receipts.event_receipt(connection, organisation_id, door, key) or {})
        letter.context["request"] = letter.job_id and decision_receipts.request(
            connection, letter.job_id, letter.enrolment_id
        )
        letter.context["shared_by"] = decision_receipts.alike(connection, organisation_id, letter.fingerprint)
        acts, met = decision_receipts.acts(connection, [letter_id]), decision_receipts.met(connection, letter_id)
    return dataclasses.replace(letter, history=timeline.of_letter(letter, acts, met))


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
        BrakeError: their learners would go past the brake's limit.
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
        BrakeError: their learners would go past the brake's limit.
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
    """Do one act to locked, open letters and put it on record under `act_id`, in the caller's transaction.

    A repetition after a lost answer must not come here: it finds its act on record, or the letters no longer open.
    """
    detail = json.dumps({"act": act_id})
    dead_letters.audit_all(connection, letter_ids, actor=actor, action=f"dead_letter.{act}", note=note, detail=detail)
    match act:
        case "redrive":
            dead_letters.redrive(connection, letter_ids, actor=actor)
        case "override":
            dead_letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case "cascade":
            for found in runs.siblings(connection, letter_ids):
                who = Requester(organisation_id, actor, "api", f"cascade:{uuid4().hex}")
                accept_cascade(
                    connection,
                    who,
                    reason=found.reason,
                    note=note,
                    pathway_id=found.pathway_id,
                    enrolment_ids=found.ids,
                )
            dead_letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case "keep":
            dead_letters.close(connection, letter_ids, state=LetterState.RESOLVED, remedy=act, actor=actor)
        case "discard":
            dead_letters.close(connection, letter_ids, state=LetterState.DISCARDED, remedy=act, actor=actor)
    jobs.notify(connection)


def codes_of(act: str) -> list[str] | None:
    """The kinds of letters that an act is for; None: all."""
    if act == "discard":
        return None
    return [code for code in LetterCode if act in remedies(code)]


def redrive_known_learners(database: Database) -> int:
    """Try letters of unknown learners again whose learner exists by now; how many."""
    with database.begin() as connection:
        known = dead_letters.with_known_learner(connection)

    def work(connection: Connection, organisation_id: int, letter_ids: list[int]) -> int:
        learners = runs.learners(connection, organisation_id, letter_ids)
        count_or_refuse(connection, organisation_id, learners=learners)
        dead_letters.lock(connection, organisation_id, letter_ids)
        jobs.notify(connection)
        return len(dead_letters.redrive(connection, letter_ids, actor="relay"))

    driven = 0
    for organisation_id, letter_ids in known:
        try:
            driven += database.run(partial(work, organisation_id=organisation_id, letter_ids=letter_ids))
        except BrakeError:  # they stay open, and are tried again when the window has room
            log.warning("dead_letter.redrive_braked", organisation_id=organisation_id, dead_letters=len(letter_ids))
    return driven


def _act(
    database: Database, organisation_id: int, letter_ids: Sequence[int], actor: str, act: str, note: str | None
) -> None:
    """Lock the letters, refuse what is missing, not open or not for this act, and do it."""
    act_id = uuid4().hex

    def work(connection: Connection) -> None:
        jobs.lock_settings(connection, organisation_id)  # before letters: a cascade admits a job
        if dead_letters.acted(connection, letter_ids, act_id):
            return  # the answer to the first commit was lost
        if act in ATTEMPTS:
            learners = runs.learners(connection, organisation_id, letter_ids)
            count_or_refuse(connection, organisation_id, learners=learners)
        rows = dead_letters.lock(connection, organisation_id, letter_ids)
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
