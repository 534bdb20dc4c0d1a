"""Runs: one act on all dead letters that match a filter, careful by itself.

What matches is frozen at the start. A few letters of each fingerprint go first; only where all of these succeed do the
others follow, at a rate, and the run halts when failures return. The relay drives it in steps, each of which is one
transaction over the locked run: died between two steps, another relay goes on; within one, it did not happen.
"""

import json
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from schemas.catalogue import LetterState, Outcome
from schemas.dead_letters import LetterFilter
from worker.database import Database
from worker.dead_letters.remedies import ATTEMPTS, BY_REMEDY, act_on_locked, codes_of
from worker.errors import BrakeError, ConflictError, InvalidInputError, NotFoundError, describe, is_transient
from worker.jobs.admission import count_or_refuse
from worker.ledger import dead_letters, jobs, runs
from worker.ledger.runs import Run, Step

log = structlog.get_logger(__name__)

ACTS = ("redrive", "override", "cascade", "keep", "discard")
RATE, CANARY = 500, 3
"""Letters a second, and letters of a fingerprint that go first."""
WINDOW, LEAST = 100, 10
"""The run halts when, of the last 100 letters whose attempt ended (at least 10), more than half are open again."""
_MOOT = (Outcome.ALREADY_WITHDRAWN, Outcome.ENROLMENT_ENDED, Outcome.SUPERSEDED)
RELAY = "relay"
"""Who acts in the daily pass."""


def start(
    database: Database,
    *,
    organisation_id: int,
    act: str,
    wanted: LetterFilter,
    actor: str,
    note: str | None = None,
    rate: int = RATE,
    canary: int = CANARY,
    expected: int | None = None,
) -> Run:
    """Begin a run over every open letter that matches; while one over the same filter is under way, that is it.

    `expected`: letters that it was agreed to; with another number nothing is begun.

    Raises:
        InvalidInputError: there is no such act, or a remedy has no note.
        ConflictError: a run with another act is under way over the same filter, or the letters are not as expected.
    """
    _check(act, note)
    filter_json = _filter_json(wanted)

    def work(connection: Connection) -> int:
        codes = codes_of(act)
        gone_first = canary if act in ATTEMPTS else 0
        values = {"organisation_id": organisation_id, "act": act, "filter": filter_json, "actor": actor, "note": note}
        run_id = None
        while run_id is None:  # somebody else's may begin and end between any two looks
            known = runs.live_over(connection, organisation_id, filter_json)
            if known is not None:
                return known
            run_id = runs.insert(connection, **values, rate=rate, canary=gone_first)
        found = runs.freeze(connection, organisation_id, run_id, wanted, canary=gone_first, codes=codes)
        if expected not in (None, found):
            raise ConflictError(
                f"{found:,} letters match now, not the {expected:,} that were looked at; nothing was begun: look again"
            )
        runs.finish(connection, run_id)
        detail = json.dumps({"run": run_id, "act": act})
        jobs.audit(
            connection, organisation_id=organisation_id, actor=actor, action="run.start", note=note, detail=detail
        )
        jobs.notify(connection)
        return run_id

    run_id = database.run(work, patient=True)
    found = show(database, organisation_id=organisation_id, run_id=run_id)
    if found.act != act:
        raise ConflictError(f"run {found.id} ({found.act}) is under way over the same letters; stop it first, or wait")
    log.info("run.started", run_id=found.id, organisation_id=organisation_id, act=act, letters=found.letters)
    return found


def show(database: Database, *, organisation_id: int, run_id: int) -> Run:
    """One run with its counts.

    Raises:
        NotFoundError: there is no such run in this organisation.
    """
    with database.begin() as connection:
        found = runs.read(connection, organisation_id, run_id)
    if found is None:
        raise NotFoundError(f"there is no run {run_id} in this organisation")
    return found


def stop(database: Database, *, organisation_id: int, run_id: int, actor: str) -> Run:
    """End a run; what is in flight comes back by itself. One that has ended stays as it is.

    Raises:
        NotFoundError: there is no such run in this organisation.
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
        InvalidInputError: there is no such act.
    """
    _check(act, note="a preview needs none")
    with database.begin() as connection:
        found = runs.preview(
            connection, organisation_id, wanted, override=act in ("override", "cascade"), codes=codes_of(act)
        )
        also = runs.count_siblings(connection, organisation_id, wanted) if act == "cascade" else 0
    if act not in ATTEMPTS:
        letters_found = sum(count for _, count, _ in found)
        sample = sorted(letter_id for _, _, ids in found for letter_id in ids)[:5]
        found = [("closed", letters_found, sample)] if letters_found else []
    return {
        "letters": sum(count for _, count, _ in found),
        "outcomes": {outcome: count for outcome, count, _ in sorted(found)},
        "moot": sum(count for outcome, count, _ in found if outcome in _MOOT),
        "also": also,
        "samples": {outcome: ids for outcome, _, ids in sorted(found)},
    }


def step_all(database: Database) -> int:
    """One step of every run that is under way; how many letters were driven."""
    with database.begin() as connection:
        under_way = runs.under_way(connection)
        runs.see_results_of_ended(connection)
    driven = 0
    for run_id, organisation_id in under_way:
        try:
            driven += database.run(partial(_step, run_id=run_id, organisation_id=organisation_id))
        except Exception as error:  # whatever it is, the other runs get their turn
            if is_transient(error):
                raise
            error_class, message, _ = describe(error)
            log.warning("run.step_failed", run_id=run_id, error_class=error_class, message=message)
    return driven


def daily_pass(database: Database) -> int:
    """Once a day for each organisation: try the letters again whose evidence has changed; how many runs began."""
    with database.begin() as connection:
        organisations = runs.to_go_through(connection)
    begun = 0
    for organisation_id in organisations:
        try:
            begun += database.run(partial(_pass, organisation_id=organisation_id))
        except Exception as error:  # whatever it is, the other organisations get their turn
            if is_transient(error):
                raise
            error_class, message, _ = describe(error)
            log.warning("daily_pass.failed", organisation_id=organisation_id, error_class=error_class, message=message)
    return begun


def _pass(connection: Connection, *, organisation_id: int) -> bool:
    """One organisation's turn, and the run that comes of it, in one transaction."""
    wanted = LetterFilter(changed=True)
    filter_json = _filter_json(wanted)
    if not runs.take_daily_turn(connection, organisation_id):
        return False
    codes = codes_of("redrive")
    found = runs.preview(connection, organisation_id, wanted, override=False, codes=codes)
    if not found or runs.live_over(connection, organisation_id, filter_json) is not None:
        return False
    values = {"organisation_id": organisation_id, "act": "redrive", "filter": filter_json, "actor": RELAY}
    run_id = runs.insert(connection, **values, note=None, rate=RATE, canary=CANARY)
    if run_id is None:
        return False
    runs.freeze(connection, organisation_id, run_id, wanted, canary=CANARY, codes=codes)
    log.info("run.started", run_id=run_id, organisation_id=organisation_id, act="redrive")
    return True


def _step(connection: Connection, *, run_id: int, organisation_id: int) -> int:
    """Look at what came back, then drive as many as the rate allows; settings, run and letters are locked in order."""
    jobs.lock_settings(connection, organisation_id)
    step = runs.lock(connection, run_id)
    if step is None:
        return 0
    runs.see_results(connection, run_id)
    canaries = step.state == "canary" and not runs.end_canary(connection, run_id)
    ended, reopened = runs.recent(connection, run_id, window=WINDOW)
    if ended >= LEAST and reopened * 2 > ended:
        runs.halt(connection, run_id, f"{reopened} of the last {ended} letters were open again after their attempt")
        log.warning("run.halted", run_id=run_id, organisation_id=organisation_id)
        return 0
    if runs.finish(connection, run_id):
        log.info("run.done", run_id=run_id, organisation_id=organisation_id)
        return 0
    return _drive(connection, step, canaries=canaries) if step.allowance > 0 else 0


def _drive(connection: Connection, step: Step, *, canaries: bool) -> int:
    wanted = runs.next_letters(connection, step.id, canaries=canaries, most=step.allowance)
    if not wanted:
        return 0
    if step.act in ATTEMPTS:
        try:
            learners = runs.learners(connection, step.organisation_id, wanted)
            count_or_refuse(connection, step.organisation_id, learners=learners)
        except BrakeError as error:  # raised before anything was written
            runs.halt(connection, step.id, str(error))
            log.warning("run.halted", run_id=step.id, organisation_id=step.organisation_id)
            return 0
    locked = dead_letters.lock(connection, step.organisation_id, wanted)
    still_open = [row.id for row in locked if row.state == LetterState.OPEN]
    if still_open:
        act_on_locked(
            connection,
            step.organisation_id,
            still_open,
            act=step.act,
            act_id=f"run-{step.id}",
            actor=step.actor,
            note=step.note,
        )
    passed = sorted(set(wanted) - set(still_open))
    runs.record(connection, step.id, driven=still_open, passed=passed)
    return len(still_open)


def _check(act: str, note: str | None) -> None:
    if act not in ACTS:
        raise InvalidInputError(f"act: {act[:40]!r} is none; use {', '.join(ACTS)}")
    if act in BY_REMEDY and not (note or "").strip():
        raise InvalidInputError("note: a remedy needs a note that says why")


def _filter_json(wanted: LetterFilter) -> str:
    return json.dumps(wanted.model_dump(mode="json", exclude_none=True), sort_keys=True)
