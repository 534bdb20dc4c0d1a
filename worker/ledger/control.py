"""What people do to a job before it ends: pause, resume, move, release. Each is a guarded statement."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, any_, func, literal, select, text, update

from schemas.catalogue import JobState
from schemas.job_filter import ReleaseFilter
from worker.ledger.job_lists import job_conditions
from worker.models import Ids, audit, jobs


@dataclass(frozen=True, slots=True)
class LockedJob:
    """What an act has to know of a job, read under its lock."""

    state: JobState
    source: str
    effective_at: datetime
    requested_by: str
    released: bool
    """Whether a second person released it before."""


def lock_job(connection: Connection, organisation_id: int, job_id: int) -> LockedJob | None:
    """Lock a job of an organisation, None when the organisation has no such job."""
    statement = (
        select(jobs.c.state, jobs.c.source, jobs.c.effective_at, jobs.c.requested_by, jobs.c.released_at)
        .where(jobs.c.id == job_id, jobs.c.organisation_id == organisation_id)
        .with_for_update()
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return LockedJob(JobState(row.state), row.source, row.effective_at, row.requested_by, row.released_at is not None)


def set_job_state(connection: Connection, organisation_id: int, job_id: int, state: JobState) -> None:
    """Pause or resume a locked job; the claim reads this state."""
    admitted = jobs.c.state.in_((JobState.QUEUED, JobState.PAUSED))
    ours = (jobs.c.id == job_id, jobs.c.organisation_id == organisation_id)
    connection.execute(update(jobs).where(*ours, admitted).values(state=state))


def set_effective_time(connection: Connection, organisation_id: int, job_id: int, effective_at: datetime) -> bool:
    """Give a locked job that is not admitted another time; whether it is due now."""
    ours = (jobs.c.id == job_id, jobs.c.organisation_id == organisation_id)
    waiting = jobs.c.state.in_((JobState.SCHEDULED, JobState.HELD))
    due = and_(jobs.c.effective_at <= func.now(), jobs.c.state == JobState.SCHEDULED)
    statement = update(jobs).where(*ours, waiting).values(effective_at=effective_at).returning(due)
    return bool(connection.scalar(statement))


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that waits for a second person."""

    id: int
    requested_by: str


def list_held(
    connection: Connection, organisation_id: int, wanted: ReleaseFilter, *, after: int, limit: int = 1000
) -> list[HeldJob]:
    """Held jobs that match, by rising id from the one after `after`; not locked."""
    conditions = [
        jobs.c.organisation_id == organisation_id,
        jobs.c.state == JobState.HELD,
        jobs.c.id > after,
        *job_conditions(organisation_id, wanted),
    ]
    if wanted.ids is not None:
        conditions.append(jobs.c.id == any_(literal(wanted.ids, Ids)))
    statement = select(jobs.c.id, jobs.c.requested_by).where(*conditions).order_by(jobs.c.id).limit(limit)
    return [HeldJob(row.id, row.requested_by) for row in connection.execute(statement)]


# The settings row is locked. A job with a later time waits for it as `scheduled`, and is not held again then.
_RELEASE = text("""
WITH
-- Held jobs of the list that the actor did not request, locked in the order of their ids.
picked AS (
    SELECT id FROM withdrawals.jobs
    WHERE id = ANY(:ids) AND organisation_id = :organisation_id AND state = 'held' AND requested_by <> :actor
    ORDER BY id FOR UPDATE
),
-- Those that are due are admitted.
released AS (
    UPDATE withdrawals.jobs j SET released_at = now(), released_by = :actor,
        -- An undo does not count; versions before 0020 held it all the same.
        learners = CASE WHEN kind = 'withdraw' THEN learners ELSE 0 END,
        state = CASE WHEN effective_at <= now() THEN 'queued' ELSE 'scheduled' END,
        admitted_at = CASE WHEN effective_at <= now() THEN now() END
    FROM picked WHERE j.id = picked.id
    RETURNING j.id, j.organisation_id, j.learners, j.state, j.held_because
),
-- Their chunks become due.
readied AS (
    UPDATE withdrawals.job_chunks c SET state = 'ready', run_after = now()
    FROM released r WHERE c.job_id = r.id AND r.state = 'queued' AND c.state = 'waiting'
),
-- Their learners count in the brake's window from this minute on.
counted AS (
    INSERT INTO withdrawals.brake_volume AS known (organisation_id, minute, jobs)
    SELECT organisation_id, date_trunc('minute', now()), coalesce(sum(learners), 0) FROM released
    WHERE state = 'queued' GROUP BY 1
    ON CONFLICT (organisation_id, minute) DO UPDATE SET jobs = known.jobs + excluded.jobs
)
-- One row of the audit for each.
INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, note, detail)
SELECT organisation_id, :actor, 'job.release', id, :note,
    CAST(:detail AS jsonb) || jsonb_build_object('held_because', held_because) FROM released
""")


def release(
    connection: Connection, organisation_id: int, job_ids: Sequence[int], *, actor: str, note: str | None, act: str
) -> int:
    """Admit those of the jobs that are held and that `actor` did not request; how many `act` released.

    The number is counted from the audit: a repetition after a lost answer counts the same.
    """
    values = {"organisation_id": organisation_id, "ids": list(job_ids), "actor": actor, "note": note}
    connection.execute(_RELEASE, {**values, "detail": json.dumps({"act": act})})
    released = select(func.count()).where(
        audit.c.job_id == any_(literal(list(job_ids), Ids)),
        audit.c.action == "job.release",
        audit.c.detail["act"].astext == act,
    )
    return int(connection.scalar(released) or 0)
