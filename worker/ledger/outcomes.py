"""The outcomes of a job as a list: those with rows, and the ids of chunks that were closed whole."""

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
