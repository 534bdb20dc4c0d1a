"""The outcomes of a job as a list: those with rows, and the ids of chunks that were closed whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Listed:
    """What happened to one enrolment of a job; to the person of a job that was closed whole (no enrolment)."""

    enrolment_id: int | None
    learner_external_id: str | None
    outcome: str
    prior_status: str | None
    pathway_id: int | None
    dead_letter_id: int | None
    decided_at: datetime | None
    reinstated_by: int | None
    """The job that took it back."""


# An id has a row or lies in one chunk that was closed whole, never both. A chunk's ids are sorted and no two
# chunks of a job overlap, so the first `limit` of those chunks that reach beyond the cursor hold the page.
_LIST = text("""
WITH rows AS (
    SELECT o.enrolment_id, o.outcome, o.prior_status, o.pathway_id, o.dead_letter_id, o.decided_at,
        o.reinstated_by
    FROM withdrawals.outcomes o
    WHERE o.job_id = :job_id AND o.organisation_id = :organisation_id AND o.enrolment_id > :after
        AND (CAST(:outcome AS text) IS NULL OR o.outcome = :outcome)
    ORDER BY o.enrolment_id LIMIT :limit
), whole AS (
    SELECT c.enrolment_ids, c.state, c.closed_at FROM withdrawals.chunks c
    WHERE c.job_id = :job_id AND c.organisation_id = :organisation_id AND c.redrives IS NULL
        AND c.state IN ('cancelled', 'superseded') AND c.enrolment_ids[cardinality(c.enrolment_ids)] > :after
        AND (CAST(:outcome AS text) IS NULL OR c.state = :outcome)
    ORDER BY c.enrolment_ids[1] LIMIT :limit
), persons AS (
    SELECT c.learner_external_id, c.state, c.dead_letter_id, c.closed_at FROM withdrawals.chunks c
    WHERE c.job_id = :job_id AND c.organisation_id = :organisation_id AND c.redrives IS NULL
        AND c.state IN ('cancelled', 'superseded', 'failed') AND c.learner_external_id IS NOT NULL AND :after = 0
        AND (CAST(:outcome AS text) IS NULL OR c.state = :outcome)
)
SELECT enrolment_id, NULL AS learner_external_id, outcome, prior_status, pathway_id, dead_letter_id, decided_at,
    reinstated_by FROM rows
UNION ALL
SELECT id, NULL, state, NULL, NULL, NULL, closed_at, NULL FROM whole, unnest(enrolment_ids) id WHERE id > :after
UNION ALL
SELECT NULL, learner_external_id, state, NULL, NULL, dead_letter_id, closed_at, NULL FROM persons
ORDER BY enrolment_id NULLS FIRST LIMIT :limit
""")


def of_job(
    connection: Connection, organisation_id: int, job_id: int, *, outcome: str | None, after: int, limit: int
) -> list[Listed]:
    """Outcomes by rising enrolment id, from the one behind `after` (0: from the first)."""
    values = {"organisation_id": organisation_id, "job_id": job_id, "outcome": outcome}
    rows = connection.execute(_LIST, {**values, "after": after, "limit": limit})
    return [Listed(**row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class Named:
    """Whose enrolment it is, and in what."""

    learner: str
    """The external id."""
    learner_name: str | None
    series_id: int
    series_title: str
    status: str


_NAMES = text("""
SELECT e.id, l.external_id AS learner, l.display_name AS learner_name, s.id AS series_id, s.title AS series_title,
    e.status
FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id JOIN lms.series s ON s.id = e.series_id
WHERE e.id = ANY(:ids) AND e.organisation_id = :organisation_id
""")


def names(connection: Connection, organisation_id: int, enrolment_ids: Sequence[int]) -> dict[int, Named]:
    """Learner and Series of enrolments of an organisation; one that is gone is missing."""
    rows = connection.execute(_NAMES, {"organisation_id": organisation_id, "ids": list(enrolment_ids)}).mappings()
    return {row["id"]: Named(**{name: row[name] for name in Named.__slots__}) for row in rows}


_SERIES = text("""
SELECT s.id, s.title, count(*) AS n FROM withdrawals.outcomes o
JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = o.organisation_id
JOIN lms.series s ON s.id = e.series_id
WHERE o.job_id = :job_id AND o.organisation_id = :organisation_id AND o.outcome = 'withdrawn'
    AND o.reinstated_by IS NULL
GROUP BY s.id ORDER BY s.title, s.id LIMIT 500
""")


def series(connection: Connection, organisation_id: int, job_id: int) -> list[tuple[int, str, int]]:
    """The Series that a job withdrew from: id, title, and how many of its withdrawals stand."""
    rows = connection.execute(_SERIES, {"organisation_id": organisation_id, "job_id": job_id})
    return [(row.id, row.title, int(row.n)) for row in rows]


_LEARNER = text("SELECT id FROM lms.learners WHERE organisation_id = :organisation_id AND external_id = :external_id")


def learner_id(connection: Connection, organisation_id: int, external_id: str) -> int | None:
    """The learner of an external id."""
    found = connection.scalar(_LEARNER, {"organisation_id": organisation_id, "external_id": external_id})
    return None if found is None else int(found)
