"""What the relay does about runs: their steps, and the daily redrive of what has changed.

Each step is one transaction over the locked run. A relay that dies between two steps is replaced by another; one that
dies within a step has done nothing.
"""

import structlog
from sqlalchemy import Connection

from schemas.catalogue import LetterState
from schemas.dead_letters import LetterAct, LetterFilter
from worker.database import Database
from worker.dead_letters import acts
from worker.dead_letters.remedies import do_on_locked
from worker.dead_letters.runs import CANARY, RATE, as_json
from worker.errors import BrakeError
from worker.jobs.admission import count_or_refuse
from worker.ledger import attempts_preview, dead_letters, jobs, runs
from worker.ledger.runs import LockedRun

log = structlog.get_logger(__name__)

WINDOW, LEAST = 100, 10
"""The run halts when, of the last 100 letters whose attempt ended (at least 10), more than half are open again."""
RELAY = "relay"
"""Who acts in the daily redrive."""


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
    conditions = as_json(wanted)
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
