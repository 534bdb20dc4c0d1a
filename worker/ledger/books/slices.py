"""Slices: what of the books one snapshot reads. Bounded, so that no snapshot lives long and holds back VACUUM."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger.books.rule import By

ROWS = 200_000
"""About so many rows lie in one slice."""

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Slice:
    """Part of what is scanned by one key."""

    by: By
    within: str
    """SQL in which `{column}` stands for the key's column."""
    values: dict[str, Any] = field(default_factory=dict)


# Where slices end: at about so many ids of jobs, or rows of anything else.
_ENDS = text("""
SELECT 'job' AS by, max(id) AS ends FROM (
    SELECT id, sum(accepted + 10) OVER (ORDER BY id) / :rows AS slice FROM withdrawals.jobs) j GROUP BY slice
UNION ALL SELECT 'person', max(organisation_id) FROM (
    SELECT organisation_id, sum(count(*)) OVER (ORDER BY organisation_id) / :rows AS slice
    FROM withdrawals.persons GROUP BY organisation_id) p GROUP BY trunc(slice)
UNION ALL SELECT 'letter', id FROM (
    SELECT id, row_number() OVER (ORDER BY id) % :rows AS nth FROM withdrawals.dead_letters) d WHERE nth = 0
UNION ALL SELECT 'enrolment', id FROM (
    SELECT id, row_number() OVER (ORDER BY id) % :rows AS nth FROM lms.enrolments) e WHERE nth = 0
UNION ALL SELECT 'receipt', id FROM (
    SELECT id, row_number() OVER (ORDER BY id) % :rows AS nth FROM withdrawals.receipts) r WHERE nth = 0
UNION ALL SELECT 'audit', id FROM (
    SELECT id, row_number() OVER (ORDER BY id) % :rows AS nth FROM withdrawals.audit) a WHERE nth = 0
ORDER BY 1, 2
""")


def everything(connection: Connection, *, rows: int = ROWS) -> list[Slice]:
    """Slices that cover all there is. The last of each kind has no end: what comes meanwhile lies in it."""
    ends: dict[str, list[int]] = {by: [] for by in By}
    for row in connection.execute(_ENDS, {"rows": rows}):
        ends[row.by].append(row.ends)
    return [Slice(by, _between(low, high)) for by in By for low, high in _ranges(by, ends[by])]


def _ranges(by: By, ends: list[int]) -> list[tuple[int, int]]:
    if by in (By.JOB, By.PERSON):  # their last slice ends with the last row
        ends = ends[:-1]
    bounds = [_LOWEST, *ends, _HIGHEST]
    return [(low + 1, high) for low, high in pairwise(bounds)]


def _between(low: int, high: int) -> str:
    """Numbers in the text: with parameters, PostgreSQL would keep one plan for slices of any size."""
    return f"{{column}} BETWEEN {low} AND {high}"


# Each job with the weight that it has in a slice.
_JOBS_SINCE = text("""
SELECT id, accepted + 10 AS weight FROM withdrawals.jobs WHERE finished_at IS NULL OR finished_at >= :since
    OR created_at >= :since
    OR id IN (SELECT job_id FROM withdrawals.chunks WHERE closed_at >= :since OR created_at >= :since)
    OR id IN (SELECT reinstates FROM withdrawals.jobs WHERE finished_at IS NULL OR finished_at >= :since)
ORDER BY id
""")
_LETTERS_SINCE = text("""
SELECT id, 1 AS weight FROM withdrawals.dead_letters
WHERE state IN ('open', 'redriven') OR opened_at >= :since OR closed_at >= :since ORDER BY id
""")
_ENROLMENTS_SINCE = text("""
SELECT enrolment_id AS id, 1 AS weight FROM withdrawals.outcomes WHERE job_id = ANY(:jobs) AND decided_at >= :since
UNION SELECT o.enrolment_id, 1 FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.reinstated_by
    WHERE o.job_id = ANY(:jobs)
UNION SELECT id, 1 FROM lms.enrolments WHERE withdrawn_at >= :since ORDER BY id
""")
# Seals are about whole days, so the rows that they count begin with the day.
_FIRST_SINCE = text("""
SELECT (SELECT min(id) FROM withdrawals.receipts WHERE received_at >= :day) AS receipt,
    (SELECT min(id) FROM withdrawals.audit WHERE at >= :day) AS audit
""")


def changed_since(connection: Connection, since: datetime, *, rows: int = ROWS) -> list[Slice]:
    """Slices of what was written since a time. Persons are all looked at: what they are depends on the clock."""
    jobs = connection.execute(_JOBS_SINCE, {"since": since}).all()
    letters = connection.execute(_LETTERS_SINCE, {"since": since}).all()
    enrolments = connection.execute(_ENROLMENTS_SINCE, {"since": since, "jobs": [job.id for job in jobs]}).all()
    day = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = connection.execute(_FIRST_SINCE, {"day": day}).one()
    slices = _listed(By.JOB, jobs, rows) + _listed(By.LETTER, letters, rows) + _listed(By.ENROLMENT, enrolments, rows)
    for by, low in ((By.RECEIPT, first.receipt), (By.AUDIT, first.audit)):
        slices += [Slice(by, _between(low, _HIGHEST))] if low is not None else []
    return [*slices, Slice(By.PERSON, _between(_LOWEST, _HIGHEST)), Slice(By.WHOLE, "true")]


def is_job(connection: Connection, job_id: int) -> bool:
    """Whether there is such a job, of any organisation."""
    return bool(
        connection.scalar(text("SELECT EXISTS (SELECT FROM withdrawals.jobs WHERE id = :job)"), {"job": job_id})
    )


_LETTERS_OF_JOB = text("""
SELECT id, 1 AS weight FROM withdrawals.dead_letters WHERE job_id = :job
    OR id IN (SELECT dead_letter_id FROM withdrawals.outcomes WHERE job_id = :job AND dead_letter_id IS NOT NULL)
    OR id IN (SELECT coalesce(redrives, dead_letter_id) FROM withdrawals.chunks WHERE job_id = :job)
ORDER BY id
""")
_ENROLMENTS_OF_JOB = text("""
SELECT enrolment_id AS id, 1 AS weight FROM withdrawals.outcomes WHERE job_id = :job
UNION SELECT unnest(enrolment_ids), 1 FROM withdrawals.chunks WHERE job_id = :job ORDER BY id
""")
_AUDIT_OF_JOB = text("SELECT id, 1 AS weight FROM withdrawals.audit WHERE job_id = :job ORDER BY id")


def of_job(connection: Connection, job_id: int, *, rows: int = ROWS) -> list[Slice]:
    """Slices of one job: itself, its dead letters, the enrolments that it names, and its audit."""
    slices = [Slice(By.JOB, _between(job_id, job_id))]
    parts = {By.LETTER: _LETTERS_OF_JOB, By.ENROLMENT: _ENROLMENTS_OF_JOB, By.AUDIT: _AUDIT_OF_JOB}
    for by, statement in parts.items():
        slices += _listed(by, connection.execute(statement, {"job": job_id}).all(), rows)
    return slices


def _listed(by: By, found: Sequence[Any], rows: int) -> list[Slice]:
    """Slices of rows (`id`, `weight`), each about as heavy as so many rows."""
    slices: list[list[int]] = []
    room = 0
    for row in found:
        if room <= 0:
            slices.append([])
            room = rows
        slices[-1].append(row.id)
        room -= row.weight
    return [Slice(by, "{column} = ANY(:ids)", {"ids": ids}) for ids in slices]
