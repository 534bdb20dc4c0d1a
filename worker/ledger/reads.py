"""What people and producers look at: jobs with their counts, outcomes, organisations, processes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from schemas.catalogue import JobState
from worker.records import Job

# Counts come from the chunks, each written by the transaction that decided it; a letter chunk holds changes.
_JOB = """
SELECT j.id, j.organisation_id, j.kind, j.reason, j.source, j.requested_by, j.note, j.file_name,
    j.idempotency_key, j.learner_external_id, j.created_at, j.effective_at, j.finished_at, j.duplicates, j.reinstates,
    CASE WHEN j.state = 'held' THEN j.held_because END AS held_because,
    CASE WHEN j.state = 'held' THEN j.brake END AS brake,
    CASE WHEN j.state = 'queued' AND totals.begun THEN 'running' ELSE j.state END AS state,
    CASE WHEN j.learner_external_id IS NULL THEN j.accepted ELSE coalesce(totals.size, 0) END AS accepted,
    coalesce(totals.unfinished, 0) AS in_flight,
    (SELECT coalesce(jsonb_object_agg(outcome, n), '{}') FROM (
        SELECT key AS outcome, sum(value::integer) AS n
        FROM withdrawals.chunks c, jsonb_each_text(c.counts) WHERE c.job_id = j.id
        GROUP BY key HAVING sum(value::integer) <> 0) counts) AS outcomes,
    (SELECT coalesce(sum((c.counts ->> 'reinstated')::integer), 0) FROM withdrawals.jobs r
        JOIN withdrawals.chunks c ON c.job_id = r.id WHERE r.reinstates = j.id) AS reinstated,
    (SELECT count(*) FROM withdrawals.dead_letters d WHERE d.state IN ('open', 'redriven') AND d.id IN (
        SELECT o.dead_letter_id FROM withdrawals.outcomes o
        WHERE o.job_id = j.id AND o.dead_letter_id IS NOT NULL
        UNION SELECT c.dead_letter_id FROM withdrawals.chunks c WHERE c.job_id = j.id)) AS open_dead_letters
FROM withdrawals.jobs j LEFT JOIN LATERAL (
    SELECT sum(c.size) FILTER (WHERE c.state <> 'split') AS size,
        sum(c.size) FILTER (WHERE c.state IN ('waiting', 'ready', 'claimed')) AS unfinished,
        bool_or(c.state NOT IN ('waiting', 'ready')) AS begun
    FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL) totals ON true
"""
_ONE = text(_JOB + "WHERE j.id = :id AND j.organisation_id = :organisation_id")
_THESE = text(_JOB + "WHERE j.id = ANY(:ids)")
_LIST = text(
    _JOB
    + """
WHERE j.organisation_id = :organisation_id AND (CAST(:before AS bigint) IS NULL OR j.id < :before)
    AND (CAST(:stored AS text) IS NULL OR j.state = :stored)
    AND (CAST(:requested_by AS text) IS NULL OR j.requested_by = :requested_by)
    AND (:state NOT IN ('queued', 'running') OR coalesce(totals.begun, false) = (:state = 'running'))
ORDER BY j.id DESC LIMIT :limit
"""
)


def job(connection: Connection, organisation_id: int, job_id: int) -> Job | None:
    """One job of an organisation, with its counts."""
    row = connection.execute(_ONE, {"id": job_id, "organisation_id": organisation_id}).mappings().one_or_none()
    return _as_job(row) if row else None


def these_jobs(connection: Connection, job_ids: Sequence[int]) -> list[Job]:
    """Jobs of any organisation, with their counts; for callers who have checked that they may be seen."""
    return [_as_job(row) for row in connection.execute(_THESE, {"ids": list(job_ids)}).mappings()]


def jobs(
    connection: Connection,
    organisation_id: int,
    *,
    state: str | None = None,
    requested_by: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """Jobs of an organisation, newest first."""
    stored = "queued" if state == "running" else state
    parameters = {"organisation_id": organisation_id, "state": state or "", "stored": stored}
    parameters |= {"requested_by": requested_by, "before": before, "limit": limit}
    return [_as_job(row) for row in connection.execute(_LIST, parameters).mappings()]


def _as_job(row: Any) -> Job:
    return Job(**{**row, "state": JobState(row["state"])})


_PACE = text("""
SELECT coalesce(sum(c.size), 0) / greatest(extract(epoch FROM least(now() - j.admitted_at, interval '30 seconds')), 1)
FROM withdrawals.jobs j JOIN withdrawals.chunks c ON c.job_id = j.id
WHERE j.id = :id AND c.redrives IS NULL AND c.state IN ('done', 'failed')
    AND c.closed_at > now() - interval '30 seconds'
GROUP BY j.id
""")


def pace(connection: Connection, job_id: int) -> float:
    """Enrolments of a job that were decided a second, over the last half minute."""
    return float(connection.scalar(_PACE, {"id": job_id}) or 0)


_UNDOING = text("SELECT id FROM withdrawals.jobs WHERE reinstates = :id ORDER BY id LIMIT 100")


def undoing(connection: Connection, job_id: int) -> list[int]:
    """The jobs that take a job back."""
    return list(connection.scalars(_UNDOING, {"id": job_id}))


def revision(connection: Connection) -> str | None:
    """The migration that the database is at, None before the first."""
    if connection.scalar(text("SELECT to_regclass('withdrawals.schema_version') IS NULL")):
        return None
    return str(connection.scalar(text("SELECT version_num FROM withdrawals.schema_version")))
