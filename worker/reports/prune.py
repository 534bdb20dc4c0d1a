"""Prune what was kept for as long as the settings say: details of jobs, receipts, rosters, the audit.

Nothing goes by default. Each step is a short transaction that leaves the books provable, so it may stop after any of
them; the next run goes on. What goes is written to Parquet files first, where somebody asks for it. Decision record
0037 has the reasons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import Connection

from worker.config import Settings
from worker.database import Database
from worker.ledger import jobs, retention, retention_days, retention_rosters
from worker.ledger.retention import Candidate
from worker.reports import prune_files

log = structlog.get_logger(__name__)

MARK = 50_000
"""About so many enrolments are recorded in one transaction; a larger job alone."""
CLEAR = 10_000
"""At most so many rows are deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What of one kind would go now."""

    kind: str
    """`jobs`, `receipts`, `rosters` or `audit`."""
    keep_days: int
    rows: int
    """Jobs, or rows of the table."""
    outcomes: int
    """Of these jobs."""
    bytes: int
    """Of the rows, without indexes; of jobs: of their outcomes and chunks."""
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one transaction has recorded; no rows: it looked, or deleted what was recorded before."""

    kind: str
    organisation_ids: tuple[int, ...]
    rows: int
    files: tuple[str, ...] = ()


def kept(settings: Settings, *kinds: str) -> dict[str, int]:
    """For how many days each kind is kept; without those that are kept for ever. `kinds`: only these."""
    days = {
        "jobs": settings.job_keep_days, "receipts": settings.receipt_keep_days,
        "rosters": settings.receipt_keep_days,  # a line is the receipt of what the roster said about a person
        "audit": settings.audit_keep_days,
    }  # fmt: skip
    return {kind: number for kind, number in days.items() if number is not None and kind in (kinds or days)}


def plan(database: Database, days: dict[str, int]) -> list[Planned]:
    """What would go now. Nothing is locked or written."""
    organisations, now = _begin(database)
    found = []
    for kind, number in days.items():
        before = now - timedelta(days=number)
        parts: Iterator[_Part]
        if kind == "jobs":
            parts = (part for one in organisations for part in _plan_jobs(database, one, before))
        else:
            parts = _plan_lines(database, before) if kind == "rosters" else _plan_rows(database, kind, before)
        rows = outcomes = size = 0
        oldest: datetime | None = None
        for part_rows, part_outcomes, part_size, part_oldest in parts:
            rows, outcomes, size = rows + part_rows, outcomes + part_outcomes, size + part_size
            oldest = min(filter(None, (oldest, part_oldest)), default=None)
        found.append(Planned(kind, number, rows, outcomes, size, oldest))
    return found


def _begin(database: Database) -> tuple[list[int], datetime]:
    with database.begin() as connection:
        return retention.organisations(connection), jobs.database_now(connection)


_Part = tuple[int, int, int, datetime | None]


def _plan_jobs(database: Database, organisation_id: int, before: datetime) -> Iterator[_Part]:
    for candidates in _look(database, organisation_id, before):
        ids = [one.id for one in candidates if not one.marked]
        with database.begin() as connection:
            retention.begin(connection)
            outcomes, size, oldest = retention.measure(connection, ids)
        yield len(ids), outcomes, size, oldest


def _plan_rows(database: Database, table: str, before: datetime) -> Iterator[_Part]:
    after, ended = 0, False
    while not ended:
        with database.begin() as connection:
            retention.begin(connection)
            found = retention_days.look(connection, table, after=after, before=before, window=CLEAR)
            size, oldest = retention_days.measure(connection, table, found.ids)
        after, ended = found.last_id, found.ended
        yield len(found.ids), 0, size, oldest


def _plan_lines(database: Database, before: datetime) -> Iterator[_Part]:
    with database.begin() as connection:
        retention.begin(connection)
        lines, size, oldest = retention_rosters.measure(connection, before=before)
    yield lines, 0, size, oldest


def prune(database: Database, days: dict[str, int], *, actor: str, export: Path | None = None) -> Iterator[Pruned]:
    """Prune what was kept for so many days. Each item is a transaction, and has committed when it is given.

    `export`: the directory to which rows are written before they go.
    """
    organisations, now = _begin(database)
    for kind, number in days.items():
        before = now - timedelta(days=number)
        if kind == "jobs":
            for one in organisations:
                yield from _prune_jobs(database, one, before, actor, export)
        elif kind == "rosters":
            yield from _prune_lines(database, before, actor, export)
        else:
            yield from _prune_rows(database, kind, before, actor, export)


def _prune_jobs(
    database: Database, organisation_id: int, before: datetime, actor: str, export: Path | None
) -> Iterator[Pruned]:
    nothing = Pruned("jobs", (organisation_id,), 0)
    for candidates in _look(database, organisation_id, before):
        yield nothing
        # Marked by a run that did not get to its end.
        for _ in _clear(database, organisation_id, [one.id for one in candidates if one.marked]):
            yield nothing
        for part in _portions([one for one in candidates if not one.marked]):
            mark = partial(_mark, organisation_id=organisation_id, ids=part, before=before, actor=actor, export=export)
            marked, files = database.run(mark, patient=True)
            if marked:
                log.info("jobs.pruned", organisation_id=organisation_id, jobs=len(marked), files=list(files))
                yield Pruned("jobs", (organisation_id,), len(marked), files)
                for _ in _clear(database, organisation_id, marked):
                    yield nothing


def _look(database: Database, organisation_id: int, before: datetime) -> Iterator[list[Candidate]]:
    after, ended = 0, False
    while not ended:
        with database.begin() as connection:
            retention.begin(connection)
            window = retention.look(connection, organisation_id, after=after, before=before)
        after, ended = window.last_id, window.ended
        yield window.candidates


def _portions(candidates: Sequence[Candidate]) -> Iterator[list[int]]:
    part: list[int] = []
    weight = 0
    for one in candidates:
        if part and weight + one.weight > MARK:
            yield part
            part, weight = [], 0
        part.append(one.id)
        weight += one.weight
    if part:
        yield part


def _mark(
    connection: Connection,
    *,
    organisation_id: int,
    ids: Sequence[int],
    before: datetime,
    actor: str,
    export: Path | None,
) -> tuple[list[int], tuple[str, ...]]:
    retention.begin(connection)
    locked = retention.lock(connection, organisation_id, ids, before=before)
    found, unbalanced = retention.count(connection, organisation_id, locked)
    if unbalanced:
        log.warning("prune.left", organisation_id=organisation_id, because="the books do not balance", jobs=unbalanced)
    if not found:
        return [], ()
    marked = [one.id for one in found]
    files = prune_files.export_jobs(connection, organisation_id, marked, export) if export else []
    retention.mark(connection, organisation_id, found, actor=actor, files=files)
    return marked, tuple(file["name"] for file in files)


def _clear(database: Database, organisation_id: int, job_ids: Sequence[int]) -> Iterator[int]:
    """Delete what marked jobs have left, and give the rows of each transaction."""

    def work(connection: Connection) -> int:
        retention.begin(connection)
        return retention.clear(connection, organisation_id, job_ids, most=CLEAR)

    while job_ids and (gone := database.run(work, patient=True)):
        yield gone


def _prune_rows(database: Database, table: str, before: datetime, actor: str, export: Path | None) -> Iterator[Pruned]:
    after, ended = 0, False
    while not ended:

        def work(connection: Connection, after: int = after) -> tuple[Pruned, int, bool]:
            retention.begin(connection)
            retention.wait_for_others(connection)
            found = retention_days.look(connection, table, after=after, before=before, window=CLEAR)
            done = _record_and_delete(connection, table, found.ids, actor, export) if found.ids else None
            return done or Pruned(table, (), 0), found.last_id, found.ended

        done, after, ended = database.run(work, patient=True)
        if done.rows:
            log.info("rows.pruned", table=table, rows=done.rows, files=list(done.files))
        yield done


def _record_and_delete(
    connection: Connection, table: str, ids: Sequence[int], actor: str, export: Path | None
) -> Pruned:
    days = retention_days.count_days(connection, table, ids)
    organisations = tuple(dict.fromkeys(day.organisation_id for day in days))
    files = prune_files.export_rows(connection, table, organisations, ids, export) if export else {}
    for day in days:
        retention.record(
            connection, table, day.organisation_id,
            day=day.day, row_count=day.row_count, digest=day.digest, actor=actor,
            files=files.get(day.organisation_id, []),
        )  # fmt: skip
    retention_days.delete_rows(connection, table, ids)
    names = tuple(file["name"] for one in files.values() for file in one)
    return Pruned(table, organisations, sum(day.row_count for day in days), names)


def _prune_lines(database: Database, before: datetime, actor: str, export: Path | None) -> Iterator[Pruned]:
    roster_id = 0

    def work(connection: Connection) -> tuple[Pruned, int] | None:
        retention.begin(connection)
        retention.wait_for_others(connection)
        roster = retention_rosters.find_next(connection, after=roster_id - 1, before=before)
        if roster is None:
            return None
        people = retention_rosters.lock_lines(connection, roster, most=CLEAR)
        files = (
            prune_files.export_lines(connection, roster.organisation_id, roster.id, people, export) if export else []
        )
        lines, digest = retention_rosters.delete_lines(connection, roster, people)
        retention.record(
            connection, "rosters", roster.organisation_id,
            day=roster.day, row_count=lines, digest=digest, actor=actor, files=files,
        )  # fmt: skip
        names = tuple(file["name"] for file in files)
        return Pruned("rosters", (roster.organisation_id,), lines, names), roster.id

    while (done := database.run(work, patient=True)) is not None:
        step, roster_id = done
        log.info("roster_lines.pruned", roster_id=roster_id, rows=step.rows, files=list(step.files))
        yield step
