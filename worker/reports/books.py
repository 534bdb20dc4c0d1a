"""The books: does the conservation formula hold, and every invariant?

They are read in slices, each in a short transaction of its own: one long snapshot of ten million rows would keep VACUUM
from cleaning up behind the workers. Every rule holds at any time, so it does not matter that slices differ in time.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from worker.config import settings
from worker.database import Database
from worker.errors import NotFoundError
from worker.ledger import books
from worker.ledger.books import audit_chain, prunes, seals, slices
from worker.ledger.books.rule import By, Rule, Severity, Violation
from worker.ledger.books.slices import Slice

_DAY = timedelta(days=1)
_TERMS = ("jobs", "accepted", "outcomes", "unfinished", "closed_whole", "pruned")


@dataclass(slots=True)
class Books:
    """Both sides of the formula, and whatever breaks a rule."""

    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TERMS, 0))
    violations: list[Violation] = field(default_factory=list)
    """What nothing but a fault explains."""
    warnings: list[Violation] = field(default_factory=list)
    """What the platform may have done."""

    @property
    def clean(self) -> bool:
        """Whether nothing is lost and nothing is counted twice."""
        accounted = sum(self.totals[term] for term in _TERMS[2:])
        return not self.violations and self.totals["accepted"] == accounted

    def add(self, found: list[Violation], *, most: int) -> None:
        """Put findings in, up to `most` of each rule."""
        for violation in found:
            level = books.RULES[violation.rule].severity
            listed = self.violations if level is Severity.BROKEN else self.warnings
            if sum(known.rule == violation.rule for known in listed) < most:
                listed.append(violation)


def rule(violation: Violation) -> Rule:
    """The rule that a row breaks: what that means, and what to do."""
    return books.RULES[violation.rule]


def check(
    database: Database,
    *,
    job_id: int | None = None,
    since: datetime | None = None,
    most: int = 20,
    rows: int = slices.ROWS,
    on_step: Callable[[int, int], None] = lambda done, all_steps: None,
) -> Books:
    """Check the books: all of them, one job, or what was written since a time. Takes no lock and writes nothing.

    `most`: rows to name for each rule. `rows`: about so many in one snapshot. `on_step`: is called with the number of
    slices done, and of all slices.

    Raises:
        NotFoundError: there is no such job.
    """
    found = Books()
    counted = {By.AUDIT: seals.Days("audit", {}), By.RECEIPT: seals.Days("receipts", {})}
    chain, pruned = audit_chain.Chain(), prunes.PrunedJobs()
    with _snapshot(database) as connection:
        horizon = prunes.newest(connection)
        parts = _slices(connection, job_id, since, rows)
    for done, part in enumerate(parts):
        on_step(done, len(parts))
        with _snapshot(database) as connection:
            kept = prunes.without_pruned(connection, part)
            found.add(_scan(connection, kept, found, most), most=most)
            if part.by is By.JOB:
                for name, number in books.totals(connection, kept).items():
                    found.totals[name] += number
            if kept is not part:
                found.add(pruned.add(connection, part, most=most), most=most)
            if part.by in counted and job_id is None:
                counted[part.by].add(connection, part.within)
            if part.by is By.AUDIT and job_id is None:
                chain.add(connection, part.within)
    if job_id is None:
        with _snapshot(database) as connection:
            day = since.astimezone(UTC).date() if since is not None else None
            gone = {table: prunes.days(connection, table, horizon=horizon) for table in seals.SEALED}
            found.add(seals.compare(connection, counted.values(), gone, since=day), most=most)
            found.add(chain.compare(connection, horizon=horizon, since=day), most=most)
            found.add(prunes.check_chain(connection), most=most)
            if since is None:
                found.add(prunes.compare(connection, pruned, horizon=horizon), most=most)
    found.totals["jobs"] += pruned.jobs.total()
    found.totals["accepted"] += pruned.accepted
    found.totals["pruned"] += pruned.ids
    on_step(len(parts), len(parts))
    return found


def _slices(connection: Connection, job_id: int | None, since: datetime | None, rows: int) -> list[Slice]:
    if job_id is not None:
        if not slices.is_job(connection, job_id):
            raise NotFoundError(f"there is no job {job_id}")
        return slices.of_job(connection, job_id, rows=rows)
    if since is not None:
        return slices.changed_since(connection, since, rows=rows)
    return slices.everything(connection, rows=rows)


def _scan(connection: Connection, part: Slice, found: Books, most: int) -> list[Violation]:
    current = settings()
    number = Counter(violation.rule for violation in found.violations + found.warnings)
    return books.scan_slice(
        connection,
        part,
        role=current.database_role,
        # An attempt after an error of the surroundings may lie a day ahead, and a longer wait may be set.
        furthest=max(2 * timedelta(seconds=current.backoff_max_seconds), _DAY),
        most=most,
        without=[code for code, times in number.items() if times >= most],
    )


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """A transaction in which all statements see the same."""
    with (
        database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        # A scan reads many rows once: compiling it takes longer than it saves, and a sort fits into memory.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL jit = off"))
        connection.execute(text("SET LOCAL work_mem = '64MB'"))
        yield connection
