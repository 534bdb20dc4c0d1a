"""What people do to a job on its way: pause, resume, move, release; each a guarded statement."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from schemas.catalogue import JobState
from schemas.job_filter import ReleaseFilter

_LOCK = text("""
SELECT state, source, effective_at, requested_by, released_at IS NOT NULL AS released FROM withdrawals.jobs
WHERE id = :job_id AND organisation_id = :organisation_id FOR UPDATE
""")


def lock(connection: Connection, organisation_id: int, job_id: int) -> Any | None:
    """Lock a job of an organisation: state, source, effective_at, requested_by, released; None: there is none."""
    return connection.execute(_LOCK, {"organisation_id": organisation_id, "job_id": job_id}).one_or_none()


_TURN = text("UPDATE withdrawals.jobs SET state = :state WHERE id = :job_id AND state IN ('queued', 'paused')")


def turn(connection: Connection, job_id: int, state: JobState) -> None:
    """Pause or resume a locked job; the claim reads this state."""
    connection.execute(_TURN, {"job_id": job_id, "state": state})


_MOVE = text("""
UPDATE withdrawals.jobs SET effective_at = :effective_at WHERE id = :job_id AND state IN ('scheduled', 'held')
RETURNING effective_at <= now() AND state = 'scheduled'
""")


def move(connection: Connection, job_id: int, effective_at: datetime) -> bool:
    """Give a locked job that is not admitted another time; whether it is due now."""
    return bool(connection.scalar(_MOVE, {"job_id": job_id, "effective_at": effective_at}))


_HELD = text("""
SELECT j.id, j.requested_by = :actor AS own FROM withdrawals.jobs j
WHERE j.organisation_id = :organisation_id AND j.state = 'held' AND j.id > :after
    AND (CAST(:ids AS bigint[]) IS NULL OR j.id = ANY(:ids))
    AND (CAST(:source AS text) IS NULL OR j.source = :source)
    AND (CAST(:requested_by AS text) IS NULL OR j.requested_by = :requested_by)
    AND (CAST(:held_because AS text) IS NULL OR j.held_because = :held_because)
    AND (CAST(:created_after AS timestamptz) IS NULL OR j.created_at > :created_after)
    AND (CAST(:created_before AS timestamptz) IS NULL OR j.created_at < :created_before)
ORDER BY j.id LIMIT :most
""")


def held(
    connection: Connection, organisation_id: int, wanted: ReleaseFilter, *, actor: str, after: int, most: int = 1000
) -> list[tuple[int, bool]]:
    """Held jobs that match, by id from `after` on, and whether `actor` requested them; not locked."""
    values = {"organisation_id": organisation_id, "actor": actor, "after": after, "most": most}
    return [(row.id, row.own) for row in connection.execute(_HELD, {**wanted.model_dump(), **values})]


# The settings row is locked. What lies ahead waits for its time, and is not held again then.
_RELEASE = text("""
WITH picked AS (
    SELECT id FROM withdrawals.jobs WHERE id = ANY(:ids) AND organisation_id = :organisation_id
        AND state = 'held' AND requested_by <> :actor
    ORDER BY id FOR UPDATE
), released AS (
    UPDATE withdrawals.jobs j SET released_at = now(), released_by = :actor,
        state = CASE WHEN effective_at <= now() THEN 'queued' ELSE 'scheduled' END,
        admitted_at = CASE WHEN effective_at <= now() THEN now() END
    FROM picked WHERE j.id = picked.id
    RETURNING j.id, j.organisation_id, j.learners, j.state, j.held_because
), readied AS (
    UPDATE withdrawals.chunks c SET state = 'ready', run_after = now()
    FROM released r WHERE c.job_id = r.id AND r.state = 'queued' AND c.state = 'waiting'
), counted AS (
    INSERT INTO withdrawals.brake_volume AS known (organisation_id, minute, jobs)
    SELECT organisation_id, date_trunc('minute', now()), sum(learners) FROM released
    WHERE state = 'queued' GROUP BY 1 HAVING sum(learners) > 0
    ON CONFLICT (organisation_id, minute) DO UPDATE SET jobs = known.jobs + excluded.jobs
)
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, note, detail)
SELECT organisation_id, :actor, 'job.release', id, :note,
    CAST(:detail AS jsonb) || jsonb_build_object('held_because', held_because) FROM released
""")
_RELEASED_BY = text("""
SELECT count(*) FROM withdrawals.audit
WHERE job_id = ANY(:ids) AND action = 'job.release' AND detail ->> 'act' = :act
""")


def release(
    connection: Connection, organisation_id: int, job_ids: Sequence[int], *, actor: str, note: str | None, act: str
) -> int:
    """Admit those of the jobs that are held and that `actor` did not request, each on record; how many `act` released.

    Counted from the record: a repetition after a lost answer counts the same.
    """
    values = {"organisation_id": organisation_id, "ids": list(job_ids), "actor": actor, "note": note}
    connection.execute(_RELEASE, {**values, "detail": json.dumps({"act": act})})
    return int(connection.scalar(_RELEASED_BY, {"ids": list(job_ids), "act": act}) or 0)
