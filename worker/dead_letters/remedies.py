"""What support does with single dead letters: show, redrive, resolve, discard; each under lock and on record."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas import answers
from schemas.approvals import Approval
from schemas.catalogue import LetterCode, LetterState
from schemas.dead_letters import LetterAct
from worker.access.approvals import require
from worker.access.persons import Actor
from worker.code_words import said
from worker.config import settings
from worker.database import Database, notify_after_commit
from worker.dead_letters import acts, desk, diagnosis, second_person, timeline
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.jobs.admission import count_or_refuse, count_what_fits
from worker.jobs.submit import Requester, accept_cascade
from worker.ledger import attempts_preview, dead_letters, decision_receipts, jobs, letter_counts, letter_lists, siblings
from worker.ledger.approvals import AskedFor
from worker.ledger.dead_letters import KnownLearners, LockedLetter
from worker.records import DeadLetter
from worker.texts import mark, text

log = structlog.get_logger(__name__)


def document(letter: DeadLetter) -> answers.DeadLetter:
    """A letter as producers and support get it: its diagnosis, and the remedies with what they would do to it."""
    values = {field.name: getattr(letter, field.name) for field in dataclasses.fields(letter)}
    due_at = _due_at(letter)
    return answers.DeadLetter.model_validate(
        {
            **values,
            "diagnosis": diagnosis.diagnose(letter),
            "remedies": diagnosis.describe_remedies(letter),
            "recommended": diagnosis.recommend(letter),
            "due_at": due_at,
            "overdue": due_at is not None and due_at < letter.read_at,
        }
    )


def _due_at(letter: DeadLetter) -> datetime | None:
    """When a live letter is overdue. One of a protected enrolment has all its time once the protection has ended."""
    if not letter.is_live:
        return None
    since = letter.opened_at
    if letter.code is LetterCode.PROTECTED:
        until = letter.evidence.get("protected_until")
        if until is None:
            return None
        since = max(since, datetime.fromisoformat(until))
    return since + settings().letter_targets[letter.code]


def show(database: Database, *, organisation_id: int, letter_id: int) -> DeadLetter:
    """One letter with its history and context: its request, letters with the same cause, what the platform shows now.

    Raises:
        NotFoundError: this organisation has no such letter.
    """
    with database.begin() as connection:
        letter = letter_lists.find_letter(connection, organisation_id, letter_id)
        if letter is None:
            raise _not_found(letter_id)
        if letter.enrolment_id is not None:
            letter.evidence["now"] = letter_lists.find_enrolment(connection, organisation_id, letter.enrolment_id)
        elif letter.learner_external_id is not None:
            external_id = letter.learner_external_id
            letter.evidence["now"] = decision_receipts.find_person(connection, organisation_id, external_id)
        elif "event_id" in letter.evidence:
            door, key = f"hr:{letter.evidence['source']}", letter.evidence["event_id"]
            letter.evidence.update(decision_receipts.find_event_receipt(connection, organisation_id, door, key) or {})
        letter.context["request"] = letter.job_id and decision_receipts.find_request(
            connection, letter.job_id, letter.enrolment_id
        )
        letter.context["shared_by"] = letter_counts.count_alike(
            connection, organisation_id, letter.fingerprint, most=desk.COUNTED + 1
        )
        on_record = decision_receipts.list_acts(connection, [letter_id])
        referring = decision_receipts.list_jobs_of_letter(connection, letter_id)
    return dataclasses.replace(letter, history=timeline.of_letter(letter, on_record, referring))


def redrive(
    database: Database, *, organisation_id: int, letter_ids: Sequence[int], actor: str, note: str | None = None
) -> None:
    """Try again. Every job whose outcome refers to a letter gets a chunk; they are decided together.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
        InvalidInputError: a letter of this code has nothing to try.
        BrakeError: their learners would exceed the brake's limit.
    """
    _act(database, organisation_id, letter_ids, LetterAct.REDRIVE, actor=actor, note=note)


def resolve(
    database: Database,
    *,
    organisation_id: int,
    letter_ids: Sequence[int],
    remedy: str,
    actor: str,
    note: str,
    door: str | None = None,
    made_by: str | None = None,
) -> None:
    """Decide letters. `door`: through which it was asked for; needed for a cascade, whose jobs have it.

    `made_by`: who created the actor's token.

    `override` withdraws although a pathway owns the enrolment, `cascade` the learner's other active enrolments in
    the pathway as well (a job of source `support` for each letter that has any), `keep` leaves it.

    Raises:
        InvalidInputError: there is no note, or the remedy is not one for a letter of this code.
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
        BrakeError: their learners would exceed the brake's limit.
        SecondPersonNeededError: the policies let nobody do this alone; it waits as an approval.
    """
    act = acts.parse_act(remedy, among=acts.RESOLUTIONS, name="remedy")
    if not note.strip():
        raise InvalidInputError(text("note: a remedy needs a note that says why."))
    _act(database, organisation_id, letter_ids, act, actor=actor, note=note, door=door, made_by=made_by)


def discard(
    database: Database, *, organisation_id: int, letter_ids: Sequence[int], actor: str, note: str | None = None
) -> None:
    """Close letters without an answer; what was not done stays undone.

    Raises:
        NotFoundError: a letter does not exist in this organisation.
        ConflictError: a letter is not open.
    """
    _act(database, organisation_id, letter_ids, LetterAct.DISCARD, actor=actor, note=note)


def do_on_locked(
    connection: Connection,
    organisation_id: int,
    letter_ids: Sequence[int],
    *,
    act: LetterAct,
    act_id: str,
    actor: str,
    door: str | None,
    note: str | None,
) -> None:
    """Do one act to locked, open letters and put it on record under `act_id`, in the caller's transaction.

    `door`: through which a person asked for it; needed for a cascade, whose jobs have it.

    A repetition after a lost answer must not come here: it finds its act on record, or the letters no longer open.
    """
    dead_letters.audit_all(connection, letter_ids, actor=actor, action=f"dead_letter.{act}", note=note, act_id=act_id)
    match act:
        case LetterAct.REDRIVE:
            dead_letters.redrive(connection, letter_ids, actor=actor)
        case LetterAct.OVERRIDE:
            dead_letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case LetterAct.CASCADE:
            if door is None:
                raise ValueError("door: a cascade makes jobs, and needs the door through which it was asked for")
            for found in siblings.find(connection, letter_ids):
                accept_cascade(
                    connection,
                    Requester(organisation_id, actor, door, f"cascade:{uuid4().hex}"),
                    siblings=found,
                    note=note,
                )
            dead_letters.redrive(connection, letter_ids, actor=actor, remedy=act)
        case LetterAct.KEEP:
            dead_letters.close(connection, letter_ids, state=LetterState.RESOLVED, remedy=act, actor=actor)
        case LetterAct.DISCARD:
            dead_letters.close(connection, letter_ids, state=LetterState.DISCARDED, remedy=act, actor=actor)
    notify_after_commit(connection)


def redrive_known_learners(database: Database, places: dict[int, int] | None = None) -> int:
    """Try letters of unknown learners again whose learner exists by now; how many.

    Of each organisation as many as the brake has room for, oldest first. One call looks at one page of each; `places`
    remembers where the next call goes on.
    """
    places = {} if places is None else places
    with database.begin() as connection:
        found = dead_letters.find_known_learners(connection, places)
    work = partial(_redrive_known, places=places)
    return sum(database.run_each(found, work, step="redrive_known_learners"))


def _redrive_known(connection: Connection, page: KnownLearners, *, places: dict[int, int]) -> int:
    driven: set[int] = set()
    if page.known:
        jobs.lock_settings(connection, page.organisation_id)
        # The settings are locked: a letter that a worker is deciding is not waited for.
        locked = dead_letters.lock_letters(connection, page.organisation_id, page.known, skip_locked=True)
        still_open = [letter.id for letter in locked if letter.state is LetterState.OPEN]
        # One letter a learner: a person has one live letter of a code.
        room = count_what_fits(connection, page.organisation_id, learners=len(still_open))
        driven = dead_letters.redrive(connection, still_open[:room], actor="relay")
        notify_after_commit(connection)
        if room < len(still_open):  # they stay open, and go first once the window has room
            log.warning(
                "dead_letter.redrive_braked", organisation_id=page.organisation_id, dead_letters=len(still_open) - room
            )
            places[page.organisation_id] = still_open[room] - 1
            return len(driven)
    places[page.organisation_id] = 0 if page.is_last_page else page.last
    return len(driven)


def _act(
    database: Database,
    organisation_id: int,
    letter_ids: Sequence[int],
    act: LetterAct,
    *,
    actor: str,
    note: str | None,
    door: str | None = None,
    made_by: str | None = None,
) -> None:
    """Lock the letters, refuse what is missing, not open or not for this act, and do it, or ask for it."""
    act_id = uuid4().hex

    def work(connection: Connection) -> Approval | None:
        jobs.lock_settings(connection, organisation_id)  # before letters: a cascade admits a job
        if dead_letters.is_on_record(connection, letter_ids, act_id):
            return None  # the answer to the first commit was lost
        asked = None
        if second_person.is_limited(connection, organisation_id, act):
            _lock(connection, organisation_id, letter_ids, act)  # nobody is asked about what would be refused
            asked = second_person.ask_for_letters(
                connection, organisation_id, letter_ids, act, Actor(actor, made_by), note=note, door=door
            )
        if asked is None:
            _do(connection, organisation_id, letter_ids, act, act_id=act_id, actor=actor, note=note, door=door)
        return asked

    def wait(connection: Connection) -> None:
        dead_letters.lock_letters(connection, organisation_id, letter_ids)

    require(database.run(work, patient=True, wait=wait))
    log.info(f"dead_letter.{act}", organisation_id=organisation_id, dead_letters=len(letter_ids))


def do_approved(connection: Connection, organisation_id: int, asked: AskedFor, _: Actor) -> None:
    """Override or cascade as an approval of letters says.

    Raises:
        ConflictError: a letter is not open any more, or it would withdraw others than when it was asked for.
        BrakeError: their learners would exceed the brake's limit.
    """
    act, letter_ids = LetterAct(asked.approval.act), asked.arguments["letter_ids"]
    second_person.require_unchanged(connection, organisation_id, asked)
    _do(
        connection,
        organisation_id,
        letter_ids,
        act,
        act_id=f"approval-{asked.approval.id}",
        actor=asked.approval.requested_by,
        note=asked.approval.reason,
        door=asked.arguments["door"],
    )


def _do(
    connection: Connection,
    organisation_id: int,
    letter_ids: Sequence[int],
    act: LetterAct,
    *,
    act_id: str,
    actor: str,
    note: str | None,
    door: str | None,
) -> None:
    if act in acts.ATTEMPTS:
        _count_for_brake(connection, organisation_id, letter_ids, act)
    ids = _lock(connection, organisation_id, letter_ids, act)
    do_on_locked(connection, organisation_id, ids, act=act, act_id=act_id, actor=actor, door=door, note=note)


def _lock(
    connection: Connection, organisation_id: int, letter_ids: Sequence[int], act: LetterAct
) -> list[int]:  # fmt: skip
    locked = dead_letters.lock_letters(connection, organisation_id, letter_ids, nowait=True)
    missing = sorted(set(letter_ids) - {letter.id for letter in locked})
    if missing:
        raise _not_found(missing[0])
    for letter in locked:
        _refuse(letter, act)
    return [letter.id for letter in locked]


def _count_for_brake(
    connection: Connection, organisation_id: int, letter_ids: Sequence[int], act: LetterAct
) -> None:  # fmt: skip
    learners = attempts_preview.count_learners(connection, organisation_id, letter_ids, act)
    count_or_refuse(connection, organisation_id, learners=learners)


def _refuse(letter: LockedLetter, act: LetterAct) -> None:
    if letter.state is not LetterState.OPEN:
        if letter.state is LetterState.REDRIVEN:
            raise ConflictError(text("letter {letter_id} is not open: an attempt is in flight", letter_id=letter.id))
        template = mark("letter {letter_id} is not open: it is {state}")
        raise ConflictError(text(template, letter_id=letter.id, state=said(letter.state)))
    known = acts.remedies(letter.code)
    if act not in known:
        raise InvalidInputError(
            text(
                "remedy: {act} is not for a {code} letter. Use one of: {allowed}.",
                act=act,
                code=letter.code,
                allowed=", ".join(known),
            )
        )


def _not_found(letter_id: int) -> NotFoundError:
    return NotFoundError(text("there is no dead letter {letter_id} in this organisation", letter_id=letter_id))
