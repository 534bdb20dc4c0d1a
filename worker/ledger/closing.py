"""Chunks that are closed whole, without outcomes: their job was cancelled, or a newer event replaced a deactivation.

A chunk that another transaction is deciding is skipped: it commits, or comes back and is closed by the relay's sweep.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Text, any_, bindparam, func, literal, select, text, update
from sqlalchemy.sql.dml import ReturningUpdate

from schemas.catalogue import JobState
from worker.ledger.fragments import UNFINISHED, one_of, plan_by_index, sql_list
from worker.models import Ids, chunks, jobs
from worker.one_message import Step


def _close_whole(state: JobState, *which: ColumnElement[bool]) -> ReturningUpdate[int]:
    """Close unfinished job chunks without outcomes, except any whose transaction is running; returns their jobs."""
    closing = (
        select(chunks.c.id)
        .join(jobs, jobs.c.id == chunks.c.job_id)
        .where(*which, chunks.c.redrives.is_(None), one_of(chunks.c.state, UNFINISHED))
        .order_by(chunks.c.id)
        .with_for_update(of=chunks, skip_locked=True)
        .cte("closing")
    )
    counts = func.jsonb_build_object(literal(str(state), Text), chunks.c.size)
    values = {"state": state, "counts": counts, "closed_at": func.now(), "lease_until": None}
    return update(chunks).where(chunks.c.id == closing.c.id).values(values).returning(chunks.c.job_id)


_CLOSE_JOB = _close_whole(JobState.CANCELLED, chunks.c.job_id == bindparam("job"))
_CLOSE_CANCELLED = _close_whole(
    JobState.CANCELLED,
    jobs.c.id == any_(bindparam("ids", type_=Ids)),
    one_of(jobs.c.state, [JobState.CANCELLED]),
    one_of(chunks.c.state, ["waiting", "ready"]),
)
_CLOSE_SUPERSEDED = _close_whole(JobState.SUPERSEDED, chunks.c.id == any_(bindparam("ids", type_=Ids)))


def close_job(connection: Connection, job_id: int) -> int:
    """Close a cancelled job's unfinished chunks whole, claimed ones included; one that is running is skipped."""
    return len(connection.scalars(_CLOSE_JOB, {"job": job_id}).all())


def close_cancelled(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """Close chunks that came back after the cancel, of those of the jobs that are cancelled; returns their jobs."""
    return list(connection.scalars(_CLOSE_CANCELLED, {"ids": list(job_ids)}))


_CANCELLED_LATELY = f"""
SELECT j.id FROM withdrawals.jobs j
WHERE j.state = 'cancelled' AND j.finished_at > now() - CAST(:since AS interval)
    AND EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL
        AND c.state IN ({sql_list(UNFINISHED)}) OFFSET 0)
"""
ANY_CANCELLED_LATELY = Step("cancelled_lately", f"SELECT EXISTS ({_CANCELLED_LATELY})")
"""Whether `list_cancelled_lately` finds any."""
_LIST_CANCELLED_LATELY = text(_CANCELLED_LATELY)


def list_cancelled_lately(connection: Connection, since: timedelta) -> list[int]:
    """Jobs cancelled within this time that have an unfinished chunk: one that was being decided at the cancel."""
    plan_by_index(connection)
    return list(connection.scalars(_LIST_CANCELLED_LATELY, {"since": since}))


_WITH_UNFINISHED = text(f"""
SELECT DISTINCT job_id FROM (SELECT c.job_id FROM withdrawals.chunks c
    WHERE c.redrives IS NULL AND c.state IN ({sql_list(UNFINISHED)}) AND c.job_id > :after
    ORDER BY c.job_id LIMIT :most) c
ORDER BY job_id
""")


def list_with_unfinished(connection: Connection, *, after: int, most: int) -> list[int]:
    """Jobs of any state with unfinished chunks, by rising id from the one after `after`; `most`: chunks looked at."""
    plan_by_index(connection)
    return list(connection.scalars(_WITH_UNFINISHED, {"after": after, "most": most}))


# Each person is looked up by index, as a value, and each of their jobs by its key (OFFSET 0): the planner would go
# through all unfinished chunks for each of them. What another transaction decides is skipped.
_CLOSE_PERSONS = text(f"""
WITH closing AS MATERIALIZED (
    SELECT c.id FROM unnest(CAST(:persons AS text[]), CAST(:epochs AS bigint[])) AS g(person, epoch)
    CROSS JOIN LATERAL (
        SELECT own.id FROM (SELECT id, job_id, redrives FROM withdrawals.chunks
            WHERE organisation_id = :organisation_id AND learner_external_id = g.person
                AND state IN ({sql_list(UNFINISHED)}) OFFSET 0) own
        CROSS JOIN LATERAL (SELECT epoch FROM withdrawals.jobs WHERE id = own.job_id OFFSET 0) j
        WHERE own.redrives IS NULL AND j.epoch <> g.epoch
        UNION ALL
        SELECT further.id FROM (SELECT id, epoch FROM withdrawals.jobs
            WHERE organisation_id = :organisation_id AND deactivated_external_id = g.person OFFSET 0) j
        CROSS JOIN LATERAL (SELECT id FROM withdrawals.chunks WHERE job_id = j.id
            AND redrives IS NULL AND state IN ({sql_list(UNFINISHED)}) OFFSET 0) further
        WHERE j.epoch <> g.epoch) c
), locked AS MATERIALIZED (
    SELECT id FROM withdrawals.chunks WHERE id = ANY(ARRAY(SELECT id FROM closing))
        AND state IN ({sql_list(UNFINISHED)}) ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE withdrawals.chunks SET state = 'superseded', counts = jsonb_build_object('superseded', size),
    closed_at = now(), lease_until = NULL
WHERE id = ANY(ARRAY(SELECT id FROM locked))
RETURNING job_id
""")


def close_superseded_persons(connection: Connection, organisation_id: int, epochs: Mapping[str, int]) -> list[int]:
    """Close the unfinished chunks of persons' older deactivations, and of their cascades; returns the jobs.

    `epochs`: by external id, the epoch of the deactivation that stands. One whose transaction is running is skipped.
    """
    values = {"organisation_id": organisation_id, "persons": list(epochs), "epochs": list(epochs.values())}
    return list(connection.scalars(_CLOSE_PERSONS, values))


def close_superseded(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Close locked chunks whose deactivation a newer event has replaced."""
    connection.execute(_CLOSE_SUPERSEDED, {"ids": list(chunk_ids)})
