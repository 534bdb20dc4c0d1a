"""Runs over many letters: freeze what matches, try it in batches, record what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    exists,
    extract,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from schemas.dead_letters import LetterFilter
from worker.ledger.attempts_preview import matching_open, would_settle
from worker.ledger.fragments import among
from worker.models import Ids, dead_letters, jobs, organisation_settings, run_letters
from worker.models import runs as runs_table
from worker.one_message import Step

_NOW = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class CountedRun:
    """A run with its counts."""

    id: int
    organisation_id: int
    act: str
    filter: dict[str, Any]
    actor: str
    door: str | None
    note: str | None
    rate: int
    canary: int
    state: str
    because: str | None
    letters: int
    waiting: int
    in_flight: int
    resolved: int
    came_back: int
    held_back: int
    passed: int
    created_at: datetime
    finished_at: datetime | None
    withdrawn: int | None = None
    """Enrolments that its attempts withdrew; None: not counted."""
    reinstated: int | None = None


def insert_run(connection: Connection, **values: Any) -> int | None:
    """A new run; None when one over the same filter is under way.

    A unique index allows one unfinished run an organisation and filter: two people who press the button start one.
    """
    statement = insert(runs_table).values(**values, state="canary").on_conflict_do_nothing()
    return connection.scalar(statement.returning(runs_table.c.id))


def find_unfinished_over(connection: Connection, organisation_id: int, conditions: dict[str, Any]) -> int | None:
    """The run that is under way over a filter."""
    mine = (runs_table.c.organisation_id == organisation_id, runs_table.c.filter == conditions)
    return connection.scalar(select(runs_table.c.id).where(*mine, runs_table.c.finished_at.is_(None)))


def freeze(
    connection: Connection,
    organisation_id: int,
    run_id: int,
    wanted: LetterFilter,
    *,
    canary: int,
    codes: Sequence[str] | None,
    settling: bool = False,
) -> int:
    """Put every open letter that matches (of these codes alone) on the run's list; how many.

    `settling`: only those that an attempt would resolve now.
    """
    conditions = matching_open(organisation_id, wanted, codes)
    if settling:
        # As an array: what it asks is asked once, and not for each letter.
        settled = func.array(would_settle(organisation_id, wanted, codes).scalar_subquery(), type_=Ids)
        conditions.append(dead_letters.c.id == any_(settled))
    place = func.row_number().over(partition_by=dead_letters.c.fingerprint, order_by=dead_letters.c.id)
    matching = (
        select(dead_letters.c.id, dead_letters.c.fingerprint, place.label("place"))
        .where(*conditions)
        .subquery("matching")
    )
    rows = select(literal(run_id), matching.c.id, matching.c.fingerprint, matching.c.place <= canary)
    columns = ["run_id", "dead_letter_id", "fingerprint", "canary"]
    frozen = insert(run_letters).from_select(columns, rows).returning(run_letters.c.canary).cte("frozen")
    number = select(func.count()).select_from(frozen).scalar_subquery()
    has_canary = select(func.count()).where(frozen.c.canary).scalar_subquery() > 0
    statement = (
        update(runs_table)
        .where(runs_table.c.id == run_id)
        .values(letters=number, state=case((has_canary, "canary"), else_="running"))
        .returning(runs_table.c.letters)
    )
    return connection.scalar(statement) or 0


def count_frozen(connection: Connection, organisation_id: int, run_id: int) -> dict[str | None, int]:
    """The letters on a run's list, by the source of the job that opened each, as `approvals.count_letters` has them."""
    letter = and_(dead_letters.c.id == run_letters.c.dead_letter_id, dead_letters.c.organisation_id == organisation_id)
    opener = and_(jobs.c.id == dead_letters.c.job_id, jobs.c.organisation_id == organisation_id)
    statement = (
        select(jobs.c.source, func.count())
        .select_from(run_letters.join(dead_letters, letter).outerjoin(jobs, opener))
        .where(run_letters.c.run_id == run_id)
        .group_by(jobs.c.source)
    )
    return {source: int(count) for source, count in connection.execute(statement)}


def find_run(connection: Connection, organisation_id: int, run_id: int) -> CountedRun | None:
    """One run of an organisation."""
    statement = _select_runs(organisation_id).where(runs_table.c.id == run_id)
    row = connection.execute(statement).mappings().one_or_none()
    return CountedRun(**row) if row else None


def list_runs(
    connection: Connection, organisation_id: int, *, before: int | None = None, limit: int = 50
) -> list[CountedRun]:
    """Runs of an organisation, newest first."""
    statement = _select_runs(organisation_id).order_by(runs_table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(runs_table.c.id < before)
    return [CountedRun(**row) for row in connection.execute(statement).mappings()]


def _select_runs(organisation_id: int) -> Select[*tuple[Any, ...]]:
    number, result, driven = func.count(), run_letters.c.result, run_letters.c.driven_at.is_not(None)
    counts = (
        select(
            number.filter(~driven, result.is_(None)).label("waiting"),
            number.filter(driven, result.is_(None)).label("in_flight"),
            number.filter(result.in_(("resolved", "discarded"))).label("resolved"),
            number.filter(result == "open").label("came_back"),
            number.filter(result == "held_back").label("held_back"),
            number.filter(result == "passed").label("passed"),
        )
        .where(run_letters.c.run_id == runs_table.c.id)
        .lateral("counts")
    )
    shown = [column for column in runs_table.c if column.name != "stepped_at"]
    return select(*shown, *counts.c).join(counts, true()).where(runs_table.c.organisation_id == organisation_id)


def stop(connection: Connection, organisation_id: int, run_id: int) -> bool:
    """End a run that is under way; attempts in flight end by themselves."""
    mine = (runs_table.c.id == run_id, runs_table.c.organisation_id == organisation_id)
    return _end(connection, and_(*mine), state="stopped")


def finish(connection: Connection, run_id: int) -> bool:
    """End a run whose letters all have a result."""
    missing = exists().where(run_letters.c.run_id == run_id, run_letters.c.result.is_(None))
    return _end(connection, and_(runs_table.c.id == run_id, ~missing), state="done")


def halt(connection: Connection, run_id: int, because: str) -> None:
    """End a run that does more harm than good."""
    _end(connection, runs_table.c.id == run_id, state="halted", because=because)


def _end(connection: Connection, which: ColumnElement[bool], **values: str) -> bool:
    statement = update(runs_table).where(which, runs_table.c.finished_at.is_(None))
    return connection.execute(statement.values(finished_at=func.now(), **values)).rowcount == 1


@dataclass(frozen=True, slots=True)
class LockedRun:
    """A run that is locked for one step."""

    id: int
    organisation_id: int
    act: str
    actor: str
    door: str | None
    """Through which a person asked for it."""
    note: str | None
    state: str
    rate: int
    allowance: int
    """How many letters its rate allows now."""


ANY_UNDER_WAY = Step(
    "runs_under_way",
    """
SELECT EXISTS (SELECT FROM withdrawals.runs WHERE finished_at IS NULL)
    OR EXISTS (SELECT FROM withdrawals.run_letters WHERE driven_at IS NOT NULL AND result IS NULL)
""",
)
"""Whether there is a run to take a step of, or a letter in flight, of a run that was stopped, too."""


def find_unfinished(connection: Connection) -> list[tuple[int, int]]:
    """Runs that are not finished: id and organisation."""
    unfinished = select(runs_table.c.id, runs_table.c.organisation_id).where(runs_table.c.finished_at.is_(None))
    return [(row.id, row.organisation_id) for row in connection.execute(unfinished.order_by(runs_table.c.id))]


def lock_run(connection: Connection, organisation_id: int, run_id: int) -> LockedRun | None:
    """Lock a run for a step; None: it is finished, or another relay has it."""
    rate = runs_table.c.rate
    earned = cast(extract("epoch", _NOW - runs_table.c.stepped_at), Float) * rate
    names = ("id", "organisation_id", "act", "actor", "door", "note", "state", "rate")
    statement = (
        select(
            *(runs_table.c[name] for name in names),
            cast(func.floor(func.least(earned, rate, 1000)), Integer).label("allowance"),
        )
        .where(runs_table.c.id == run_id, runs_table.c.organisation_id == organisation_id)
        .where(runs_table.c.finished_at.is_(None))
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return LockedRun(**row) if row else None


_IN_FLIGHT = (run_letters.c.driven_at.is_not(None), run_letters.c.result.is_(None))


def record_results(connection: Connection, run_id: int) -> None:
    """Record what became of letters whose attempt is over."""
    _record_results(connection, run_letters.c.run_id == run_id)


def record_results_of_ended(connection: Connection) -> None:
    """Record what became of letters that were in flight when their run was stopped or halted."""
    ended = and_(runs_table.c.id == run_letters.c.run_id, runs_table.c.finished_at.is_not(None))
    _record_results(connection, ended)


def _record_results(connection: Connection, which: ColumnElement[bool]) -> None:
    """Each step does this, so the letter is looked up for each attempt: a plan of a join could read all letters."""
    letter = dead_letters.c.id == run_letters.c.dead_letter_id
    state = select(dead_letters.c.state).where(letter).correlate(run_letters).scalar_subquery()
    statement = update(run_letters).where(which, *_IN_FLIGHT, state != "redriven")
    connection.execute(statement.values(result=state, ended_at=_NOW))


def end_canary(connection: Connection, run_id: int) -> bool:
    """Once every canary has come back: hold the rest of each fingerprint back whose canary is open again, and go on."""
    canaries = (run_letters.c.run_id == run_id, run_letters.c.canary)
    if connection.scalar(select(exists().where(*canaries, run_letters.c.result.is_(None)))):
        return False
    came_back = select(run_letters.c.fingerprint).where(*canaries, run_letters.c.result == "open").distinct()
    # As values: the table is not analysed yet, and a join was planned that held each letter against all the others.
    failed = list(connection.scalars(came_back))
    if failed:
        rest = (run_letters.c.run_id == run_id, run_letters.c.driven_at.is_(None), run_letters.c.result.is_(None))
        held_back = update(run_letters).where(*rest, run_letters.c.fingerprint == any_(literal(failed, ARRAY(Text))))
        connection.execute(held_back.values(result="held_back", ended_at=_NOW))
    go_on = update(runs_table).where(runs_table.c.id == run_id, runs_table.c.state == "canary")
    connection.execute(go_on.values(state="running"))
    return True


def count_recent(connection: Connection, run_id: int, *, window: int) -> tuple[int, int]:
    """Of the last letters that ended, canaries apart: how many there are, and how many are open again."""
    recent = (
        select(run_letters.c.result)
        .where(run_letters.c.run_id == run_id, run_letters.c.driven_at.is_not(None), ~run_letters.c.canary)
        .where(run_letters.c.result.is_not(None))
        .order_by(run_letters.c.ended_at.desc())
        .limit(window)
        .subquery("recent")
    )
    number = func.count()
    row = connection.execute(
        select(number.label("ended"), number.filter(recent.c.result == "open").label("open")).select_from(recent)
    ).one()
    return row.ended, row.open


def next_letters(connection: Connection, run_id: int, *, canaries: bool, most: int) -> list[int]:
    """Letters to try next, by id; `canaries` alone, or all."""
    waiting = (run_letters.c.run_id == run_id, run_letters.c.driven_at.is_(None), run_letters.c.result.is_(None))
    statement = select(run_letters.c.dead_letter_id).where(*waiting)
    if canaries:
        statement = statement.where(run_letters.c.canary)
    return list(connection.scalars(statement.order_by(run_letters.c.dead_letter_id).limit(most)))


def record_step(connection: Connection, run_id: int, *, driven: Sequence[int], passed: Sequence[int]) -> None:
    """Record letters as driven, or as passed over because somebody had acted on them; the rate counts on from now."""
    mine = update(run_letters).where(run_letters.c.run_id == run_id)
    connection.execute(mine.where(among(run_letters.c.dead_letter_id, driven)).values(driven_at=_NOW))
    skipped = {"result": "passed", "ended_at": _NOW}
    connection.execute(mine.where(among(run_letters.c.dead_letter_id, passed)).values(skipped))
    connection.execute(update(runs_table).where(runs_table.c.id == run_id).values(stepped_at=_NOW))


_A_DAY_AGO = func.now() - timedelta(days=1)


ANY_DUE_FOR_REDRIVE = Step(
    "redrives_due",
    "SELECT EXISTS (SELECT FROM withdrawals.organisation_settings WHERE passed_at < now() - interval '1 day')",
)
"""Whether `organisations_due_for_redrive` finds any."""


def organisations_due_for_redrive(connection: Connection) -> list[int]:
    """Organisations whose changed letters were not tried again for a day."""
    due = select(organisation_settings.c.organisation_id).where(organisation_settings.c.passed_at < _A_DAY_AGO)
    return list(connection.scalars(due.order_by(organisation_settings.c.passed_at)))


def claim_daily_redrive(connection: Connection, organisation_id: int) -> bool:
    """Mark an organisation as done for today; False when another relay was faster."""
    mine = (organisation_settings.c.organisation_id == organisation_id, organisation_settings.c.passed_at < _A_DAY_AGO)
    statement = update(organisation_settings).where(*mine).values(passed_at=func.now())
    return connection.execute(statement).rowcount == 1
