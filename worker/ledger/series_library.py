"""The platform's Series, learners and enrolments, as administrators look for them; read, never written.

The tables are the platform's and may hold millions of rows: every statement stops at a bound, none counts them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from worker.rules import ACTIVE

MANY = 5000
"""So many enrolments of a Series are counted; beyond, "more than"."""
MOST_LEARNERS = 200
"""Learners that one search finds."""


@dataclass(frozen=True, slots=True)
class Series:
    """A Series with its enrolments, counted up to `MANY`."""

    id: int
    code: str
    title: str
    enrolments: int
    active: int
    """Of those that were counted."""

    @property
    def is_large(self) -> bool:
        return self.enrolments > MANY


# BETWEEN, for the planner: where one Series has nearly all rows, it takes `=` to be true of nearly every row, and
# reads the whole table for a Series that has none.
_SERIES = """
SELECT s.id, s.code, s.title, n.enrolments, n.active FROM lms.series s LEFT JOIN LATERAL (
    SELECT count(*) AS enrolments, count(*) FILTER (WHERE few.status = ANY(:active)) AS active
    FROM (SELECT e.status FROM lms.enrolments e WHERE e.series_id BETWEEN s.id AND s.id LIMIT :many) few) n ON true
WHERE s.organisation_id = :organisation_id
"""
_LIST_SERIES = text(
    _SERIES
    + """
    AND (CAST(:after AS text) IS NULL OR s.code > :after)
    AND (CAST(:like AS text) IS NULL OR s.code ILIKE :like OR s.title ILIKE :like)
ORDER BY s.code LIMIT :limit
"""
)
_ONE_SERIES = text(_SERIES + "AND s.id = :id")
_BOUND = {"active": list(ACTIVE), "many": MANY + 1}


def list_series(
    connection: Connection, organisation_id: int, *, containing: str = "", after: str | None, limit: int
) -> list[Series]:
    """Series by code, those whose code or title holds some text."""
    values = {"organisation_id": organisation_id, "like": _like(containing), "after": after, "limit": limit}
    return [Series(**row) for row in connection.execute(_LIST_SERIES, {**values, **_BOUND}).mappings()]


def series(connection: Connection, organisation_id: int, series_id: int) -> Series | None:
    """One Series of an organisation."""
    values = {"organisation_id": organisation_id, "id": series_id}
    row = connection.execute(_ONE_SERIES, {**values, **_BOUND}).mappings().one_or_none()
    return Series(**row) if row else None


_PATHWAYS = text("""
SELECT p.id, p.title FROM lms.pathways p WHERE p.organisation_id = :organisation_id ORDER BY p.title LIMIT 500
""")


def pathways(connection: Connection, organisation_id: int) -> list[tuple[int, str]]:
    """Id and title of an organisation's Learning Pathways, up to 500."""
    return [(row.id, row.title) for row in connection.execute(_PATHWAYS, {"organisation_id": organisation_id})]


_EXACT_LEARNERS = text("""
SELECT l.id FROM lms.learners l WHERE l.organisation_id = :organisation_id AND l.external_id = :sought
UNION SELECT l.id FROM lms.learners l WHERE l.organisation_id = :organisation_id AND lower(l.email) = lower(:sought)
""")
_LEARNERS = text("""
SELECT l.id FROM lms.learners l WHERE l.organisation_id = :organisation_id
    AND (l.external_id ILIKE :like OR l.display_name ILIKE :like OR l.email ILIKE :like)
LIMIT :limit
""")


def learners(connection: Connection, organisation_id: int, sought: str) -> tuple[list[int], bool]:
    """Ids of the learners who are meant, up to `MOST_LEARNERS`, and whether there are more.

    Exactly this external id or address, by index; else all whose external id, name or address holds the text.
    """
    values = {"organisation_id": organisation_id, "sought": sought}
    exact = list(connection.scalars(_EXACT_LEARNERS, values))
    if exact:
        return exact, False
    values = {"organisation_id": organisation_id, "like": _like(sought), "limit": MOST_LEARNERS + 1}
    found = list(connection.scalars(_LEARNERS, values))
    return sorted(found[:MOST_LEARNERS]), len(found) > MOST_LEARNERS


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which enrolments; what is None or empty does not matter."""

    series_id: int | None = None
    learner_ids: Sequence[int] | None = None
    status: Sequence[str] = ()
    pathway_id: int | None = None
    enrolled_after: datetime | None = None
    enrolled_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment with the names around it."""

    id: int
    status: str
    enrolled_at: datetime
    due_at: datetime | None
    progress: float
    withdrawn_at: datetime | None
    withdrawal_reason: str | None
    withdrawn_by: str | None
    series_id: int
    series_code: str
    series_title: str
    pathway_id: int | None
    pathway_title: str | None
    learner_external_id: str
    learner_name: str | None
    learner_email: str | None
    learner_active: bool

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def can_be_withdrawn(self) -> bool:
        """Whether a request would withdraw it as it stands (rules 2 and 6); the attempt decides again."""
        return self.is_active and self.pathway_id is None


_ENROLMENTS = """
SELECT e.id, e.status, e.enrolled_at, e.due_at, e.progress::float8 AS progress, e.withdrawn_at, e.withdrawal_reason,
    e.withdrawn_by, s.id AS series_id, s.code AS series_code, s.title AS series_title, p.id AS pathway_id,
    p.title AS pathway_title, l.external_id AS learner_external_id, l.display_name AS learner_name,
    l.email AS learner_email, l.active AS learner_active
FROM ({few}) e JOIN lms.series s ON s.id = e.series_id JOIN lms.learners l ON l.id = e.learner_id
LEFT JOIN lms.pathways p ON p.id = e.pathway_id ORDER BY e.id DESC
"""
_CONDITIONS = {
    "series_id": "e.series_id = :series_id",
    "learner_ids": "e.learner_id = ANY(:learner_ids)",
    "status": "e.status = ANY(:status)",
    "pathway_id": "e.pathway_id = :pathway_id",
    "enrolled_after": "e.enrolled_at > :enrolled_after",
    "enrolled_before": "e.enrolled_at < :enrolled_before",
    "before": "e.id < :before",
}


def enrolments(
    connection: Connection, organisation_id: int, wanted: Wanted, *, before: int | None, limit: int
) -> list[Enrolment]:
    """A page of enrolments, newest first."""
    given: dict[str, Any] = {name: getattr(wanted, name) for name in _CONDITIONS if name != "before"}
    given = {name: value for name, value in {**given, "before": before}.items() if value not in (None, ())}
    conditions = ["e.organisation_id = :organisation_id", *(_CONDITIONS[name] for name in given)]
    few = f"SELECT e.* FROM lms.enrolments e WHERE {' AND '.join(conditions)} ORDER BY e.id DESC LIMIT :limit"
    values = {name: list(value) if isinstance(value, Sequence) else value for name, value in given.items()}
    rows = connection.execute(
        text(_ENROLMENTS.format(few=few)), {"organisation_id": organisation_id, "limit": limit, **values}
    )
    return [Enrolment(**row) for row in rows.mappings()]


_ONE = text(
    _ENROLMENTS.format(few="SELECT e.* FROM lms.enrolments e WHERE e.id = :id AND e.organisation_id = :organisation_id")
)


def enrolment(connection: Connection, organisation_id: int, enrolment_id: int) -> Enrolment | None:
    """One enrolment of an organisation."""
    values = {"id": enrolment_id, "organisation_id": organisation_id}
    row = connection.execute(_ONE, values).mappings().one_or_none()
    return Enrolment(**row) if row else None


_WITHDRAWN_BY_JOB = text("""
SELECT o.job_id FROM withdrawals.outcomes o WHERE o.enrolment_id = :id AND o.organisation_id = :organisation_id
    AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL ORDER BY o.decided_at DESC LIMIT 1
""")
_OPEN_LETTERS = text("""
SELECT d.id FROM withdrawals.dead_letters d WHERE d.organisation_id = :organisation_id AND d.enrolment_id = :id
    AND d.state IN ('open', 'redriven') ORDER BY d.id
""")


def withdrawn_by_job(connection: Connection, organisation_id: int, enrolment_id: int) -> int | None:
    """The job that withdrew an enrolment and was not taken back."""
    values = {"id": enrolment_id, "organisation_id": organisation_id}
    found = connection.scalar(_WITHDRAWN_BY_JOB, values)
    return None if found is None else int(found)


def open_letters(connection: Connection, organisation_id: int, enrolment_id: int) -> list[int]:
    """The live dead letters about an enrolment."""
    return list(connection.scalars(_OPEN_LETTERS, {"id": enrolment_id, "organisation_id": organisation_id}))


def _like(containing: str) -> str | None:
    """A pattern for text that holds this, whatever is in it."""
    if not containing:
        return None
    escaped = containing.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
