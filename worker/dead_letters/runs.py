"""Runs: one act on all dead letters that match a filter, which stops by itself when it does harm.

What matches is frozen at the start. A few letters of each fingerprint go first; only where all of these succeed do the
others follow, at a rate, and the run halts when failures return. The relay drives it, in steps (`run_steps.py`).
"""

import json
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import Outcome
from schemas.dead_letters import LetterAct, LetterFilter
from worker.access.approvals import needed
from worker.access.persons import Actor
from worker.database import Database, notify_after_commit
from worker.dead_letters import acts, second_person
from worker.errors import ConflictError, InvalidInputError, NotFoundError
from worker.ledger import approvals, attempts_preview, jobs, run_results, runs, siblings
from worker.ledger.approvals import AskedFor
from worker.ledger.runs import CountedRun
from worker.texts import text

log = structlog.get_logger(__name__)

RATE, CANARY = 500, 3
"""Letters a second, and letters of a fingerprint that go first."""
_MOOT = (Outcome.ALREADY_WITHDRAWN, Outcome.ENROLMENT_ENDED, Outcome.SUPERSEDED)


def start(
    database: Database,
    *,
    organisation_id: int,
    act: str,
    wanted: LetterFilter,
    actor: str,
    door: str | None = None,
    note: str | None = None,
    rate: int = RATE,
    canary: int = CANARY,
    expected: int | None = None,
    made_by: str | None = None,
) -> CountedRun:
    """Begin a run over every open letter that matches; while one over the same filter is under way, return that one.

    `door`: through which it was asked for; needed for a cascade, whose jobs have it.
    `expected`: how many letters the person has seen in the preview; with another number no run begins.
    `made_by`: who created the actor's token.

    Raises:
        InvalidInputError: the act is unknown, or a remedy has no note.
        SecondPersonNeededError: the policies let nobody begin it alone; it waits as an approval.
        ConflictError: a run with another act is under way over the same filter, or the letters are not as expected, or
            not those that were counted for the policies.
    """
    known = acts.parse_act(act)
    if known in acts.RESOLUTIONS and not (note or "").strip():
        raise InvalidInputError(text("note: a remedy needs a note that says why."))
    if known is LetterAct.CASCADE and door is None:
        raise ValueError("door: a cascade makes jobs, and needs the door through which it was asked for")
    how: dict[str, Any] = {"door": door, "note": note, "rate": rate, "canary": canary}
    who = Actor(actor, made_by)

    def work(connection: Connection) -> int | Approval:
        asked, counted = _ask_if_limited(connection, organisation_id, known, wanted, who, how, expected)
        return asked or _begin(
            connection,
            organisation_id=organisation_id,
            act=known,
            wanted=wanted,
            actor=actor,
            expected=expected,
            counted=counted,
            **how,
        )

    run_id = database.run(work, patient=True)
    if isinstance(run_id, Approval):
        raise needed(run_id)
    found = show(database, organisation_id=organisation_id, run_id=run_id)
    if found.act != act:
        raise ConflictError(
            text(
                "run {run_id} ({act}) is under way over the same letters; stop it first, or wait",
                run_id=found.id,
                act=found.act,
            )
        )
    log.info("run.started", run_id=found.id, organisation_id=organisation_id, act=act, letters=found.letters)
    return found


def start_approved(connection: Connection, organisation_id: int, asked: AskedFor, _: Actor) -> None:
    """Begin the run of an approval.

    Raises:
        ConflictError: other letters match by now, or a run over them is under way.
    """
    given = asked.arguments
    wanted = LetterFilter.model_validate(given["filter"])
    if runs.find_unfinished_over(connection, organisation_id, as_json(wanted)) is not None:
        raise ConflictError(text("a run is under way over the same letters; wait until it ends"))
    _begin(
        connection,
        organisation_id=organisation_id,
        act=LetterAct(asked.approval.act),
        wanted=wanted,
        actor=asked.approval.requested_by,
        expected=given["letters"],
        **{name: given[name] for name in ("door", "note", "rate", "canary")},
    )


def _ask_if_limited(
    connection: Connection,
    organisation_id: int,
    act: LetterAct,
    wanted: LetterFilter,
    who: Actor,
    how: dict[str, Any],
    expected: int | None,
) -> tuple[int | Approval | None, dict[str | None, int] | None]:
    """The approval that a new run waits for, or the run that is under way; None: the actor may begin it alone.

    And the letters by source, where they had to be counted.
    """
    if not second_person.is_limited(connection, organisation_id, act):
        return None, None
    jobs.lock_settings(connection, organisation_id)
    under_way = runs.find_unfinished_over(connection, organisation_id, as_json(wanted))
    if under_way is not None:
        return under_way, None  # nothing new begins, even if it ends now
    counted = approvals.count_letters(connection, organisation_id, wanted, acts.codes_for(act))
    asked = second_person.ask_for_run(connection, organisation_id, act, wanted, who, how, counted)
    if asked is not None and expected not in (None, asked.size):
        raise _changed(asked.size, expected)
    return asked, counted


def _changed(found: int, expected: int | None) -> ConflictError:
    return ConflictError(
        text(
            "{found:,} letters match now; the preview showed {expected:,}. No run was started. Preview again.",
            found=found,
            expected=expected,
        )
    )


def _begin(
    connection: Connection,
    *,
    organisation_id: int,
    act: LetterAct,
    wanted: LetterFilter,
    actor: str,
    door: str | None,
    note: str | None,
    rate: int,
    canary: int,
    expected: int | None,
    counted: dict[str | None, int] | None = None,
) -> int:
    conditions = as_json(wanted)
    gone_first = canary if act in acts.ATTEMPTS else 0
    run_id = None
    while run_id is None:  # somebody else's run may begin and end between any two looks
        under_way = runs.find_unfinished_over(connection, organisation_id, conditions)
        if under_way is not None:
            return under_way
        run_id = runs.insert_run(
            connection,
            organisation_id=organisation_id,
            act=act,
            filter=conditions,
            actor=actor,
            door=door,
            note=note,
            rate=rate,
            canary=gone_first,
        )
    found = runs.freeze(connection, organisation_id, run_id, wanted, canary=gone_first, codes=acts.codes_for(act))
    if expected not in (None, found):
        raise _changed(found, expected)
    if counted is not None and runs.count_frozen(connection, organisation_id, run_id) != counted:
        raise ConflictError(text("Other letters match than a moment ago. No run was started. Try again."))
    runs.finish(connection, run_id)
    detail = json.dumps({"run": run_id, "act": act})
    jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="run.start", note=note, detail=detail)
    notify_after_commit(connection)
    return run_id


def show(database: Database, *, organisation_id: int, run_id: int) -> CountedRun:
    """One run with its counts; of one that has ended also how many enrolments it withdrew and reinstated.

    Raises:
        NotFoundError: this organisation has no such run.
    """
    with database.begin() as connection:
        found = runs.find_run(connection, organisation_id, run_id)
        if found is None:
            raise NotFoundError(text("there is no run {run_id} in this organisation", run_id=run_id))
        if found.finished_at is None:
            return found
        if found.act not in acts.ATTEMPTS:  # it closes letters, and does nothing to an enrolment
            return replace(found, withdrawn=0, reinstated=0)
        did = run_results.count(connection, run_id) if found.letters <= run_results.MOST else None
    return found if did is None else replace(found, withdrawn=did.withdrawn, reinstated=did.reinstated)


def stop(database: Database, *, organisation_id: int, run_id: int, actor: str) -> CountedRun:
    """End a run; attempts in flight end by themselves. One that has ended stays as it is.

    Raises:
        NotFoundError: this organisation has no such run.
    """

    def work(connection: Connection) -> None:
        if runs.stop(connection, organisation_id, run_id):
            detail = json.dumps({"run": run_id})
            jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="run.stop", detail=detail)

    database.run(work)
    return show(database, organisation_id=organisation_id, run_id=run_id)


def preview(database: Database, *, organisation_id: int, act: str, wanted: LetterFilter) -> dict[str, Any]:
    """What the act would do to every open letter that matches now; nothing is written or locked.

    Raises:
        InvalidInputError: the act is unknown.
    """
    known = acts.parse_act(act)
    override = known in (LetterAct.OVERRIDE, LetterAct.CASCADE)
    with database.begin() as connection:
        found = attempts_preview.preview(
            connection, organisation_id, wanted, override=override, codes=acts.codes_for(known)
        )
        also = 0
        if known is LetterAct.CASCADE:
            also = siblings.count(connection, organisation_id, wanted)
    letters = sum(item.letters for item in found)
    outcomes = {item.outcome: item.letters for item in sorted(found, key=lambda item: item.outcome)}
    samples = {item.outcome: item.sample for item in sorted(found, key=lambda item: item.outcome)}
    if known not in acts.ATTEMPTS:
        outcomes = {"closed": letters} if letters else {}
        samples = {"closed": sorted(i for ids in samples.values() for i in ids)[:5]} if letters else {}
    moot = sum(outcomes.get(outcome, 0) for outcome in _MOOT)
    return {"letters": letters, "outcomes": outcomes, "moot": moot, "also": also, "samples": samples}


def as_json(wanted: LetterFilter) -> dict[str, Any]:
    """The conditions of a run as it keeps them."""
    return wanted.model_dump(mode="json", exclude_none=True)
