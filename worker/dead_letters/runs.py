"""Runs: one act on all dead letters that match a filter, which stops by itself when it does harm.

What matches is frozen at the start. A few letters of each fingerprint go first; only where all of these succeed do the
others follow, at a rate, and the run halts when failures return. The relay drives it in steps, each of which is one
transaction over the locked run. A relay that dies between two steps is replaced by another; one that dies within a
step has done nothing.
"""

import json
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import LetterState, Outcome
from schemas.dead_letters import LetterAct, LetterFilter
from worker.access.approvals import needed
from worker.access.persons import Actor
from worker.database import Database, notify_after_commit
from worker.dead_letters import acts, second_person
from worker.dead_letters.remedies import do_on_locked
from worker.errors import BrakeError, ConflictError, InvalidInputError, NotFoundError
from worker.jobs.admission import count_or_refuse
from worker.ledger import approvals, attempts_preview, dead_letters, jobs, run_results, runs, siblings
from worker.ledger.approvals import AskedFor
from worker.ledger.runs import CountedRun, LockedRun
from worker.texts import text

log = structlog.get_logger(__name__)

RATE, CANARY = 500, 3
"""Letters a second, and letters of a fingerprint that go first."""
WINDOW, LEAST = 100, 10
"""The run halts when, of the last 100 letters whose attempt ended (at least 10), more than half are open again."""
_MOOT = (Outcome.ALREADY_WITHDRAWN, Outcome.ENROLMENT_ENDED, Outcome.SUPERSEDED)
RELAY = "relay"
"""Who acts in the daily redrive."""


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
    if runs.find_unfinished_over(connection, organisation_id, _as_json(wanted)) is not None:
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
    under_way = runs.find_unfinished_over(connection, organisation_id, _as_json(wanted))
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
    conditions = _as_json(wanted)
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


def step_all(database: Database) -> int:
    """One step of every run that is under way; how many letters were driven."""
    with database.begin() as connection:
        under_way = runs.find_unfinished(connection)
        runs.record_results_of_ended(connection)
    return sum(database.run_each(under_way, _step, step="run"))


def redrive_changed(database: Database) -> int:
    """Once a day for each organisation: try the letters again whose cause is gone; how many runs began.

    These are the letters whose evidence has changed so that an attempt would resolve them. Others have changed without
    consequence: as canaries they would hold back the rest, and they would use up the brake's window.
    """
    with database.begin() as connection:
        organisations = runs.organisations_due_for_redrive(connection)
    return sum(database.run_each(organisations, _redrive_changed_of, step="redrive_changed"))


def _redrive_changed_of(connection: Connection, organisation_id: int) -> bool:
    """Claim an organisation's day and begin the run, in one transaction."""
    wanted = LetterFilter(changed=True)
    conditions = _as_json(wanted)
    if not runs.claim_daily_redrive(connection, organisation_id):
        return False
    codes = acts.codes_for(LetterAct.REDRIVE)
    found = attempts_preview.any_would_settle(connection, organisation_id, wanted, codes)
    if not found or runs.find_unfinished_over(connection, organisation_id, conditions) is not None:
        return False
    run_id = runs.insert_run(
        connection,
        organisation_id=organisation_id,
        act=LetterAct.REDRIVE,
        filter=conditions,
        actor=RELAY,
        note=None,
        rate=RATE,
        canary=CANARY,
    )
    if run_id is None:
        return False
    runs.freeze(connection, organisation_id, run_id, wanted, canary=CANARY, codes=codes, settling=True)
    log.info("run.started", run_id=run_id, organisation_id=organisation_id, act=LetterAct.REDRIVE)
    return True


def _step(connection: Connection, under_way: tuple[int, int]) -> int:
    """Record what came back, then drive as many as the rate allows; settings, run and letters are locked in order."""
    run_id, organisation_id = under_way
    jobs.lock_settings(connection, organisation_id)
    run = runs.lock_run(connection, organisation_id, run_id)
    if run is None:
        return 0
    runs.record_results(connection, run_id)
    canaries = run.state == "canary" and not runs.end_canary(connection, run_id)
    ended, reopened = runs.count_recent(connection, run_id, window=WINDOW)
    if ended >= LEAST and reopened * 2 > ended:
        _halt(connection, run, f"{reopened} of the last {ended} letters were open again after their attempt")
        return 0
    if runs.finish(connection, run_id):
        log.info("run.done", run_id=run_id, organisation_id=organisation_id)
        return 0
    return _drive(connection, run, canaries=canaries) if run.allowance > 0 else 0


def _drive(connection: Connection, run: LockedRun, *, canaries: bool) -> int:
    wanted = runs.next_letters(connection, run.id, canaries=canaries, most=run.allowance)
    if not wanted:
        return 0
    act = acts.parse_act(run.act)
    # The settings are locked: a letter that a worker is deciding is not waited for, and stays for the next step.
    locked = dead_letters.lock_letters(connection, run.organisation_id, wanted, skip_locked=True)
    still_open = [letter.id for letter in locked if letter.state is LetterState.OPEN]
    if act in acts.ATTEMPTS:
        try:
            learners = attempts_preview.count_learners(connection, run.organisation_id, still_open, act)
            count_or_refuse(connection, run.organisation_id, learners=learners)
        except BrakeError as error:  # raised before anything was written
            _halt(connection, run, str(error))
            return 0
    if still_open:
        do_on_locked(
            connection,
            run.organisation_id,
            still_open,
            act=act,
            act_id=f"run-{run.id}",
            actor=run.actor,
            door=run.door or "api",  # of a run by an older version
            note=run.note,
        )
    passed = [letter.id for letter in locked if letter.state is not LetterState.OPEN]
    runs.record_step(connection, run.id, driven=still_open, passed=passed)
    return len(still_open)


def _halt(connection: Connection, run: LockedRun, because: str) -> None:
    runs.halt(connection, run.id, because)
    log.warning("run.halted", run_id=run.id, organisation_id=run.organisation_id)


def _as_json(wanted: LetterFilter) -> dict[str, Any]:
    return wanted.model_dump(mode="json", exclude_none=True)
