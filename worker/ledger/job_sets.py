"""Jobs in sets: one statement a step for all requests that share a transaction, a single one included.

Rows go in as one JSON document, so that a statement is the same text, and keeps its plan, for any number of them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, text

from worker.ledger.fragments import IS_WITHDRAWN, WOULD_WITHDRAW, plan_by_index
from worker.models import Ids
from worker.records import Brake, NewJob


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a request before its job is inserted."""

    known: tuple[int | None, bytes] | None
    """The job that its key has made already (None: an event without one), with the hash of its request."""
    is_due: bool
    learners: int
    """So many the rules would withdraw now."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What the brake has counted of an organisation."""

    before: int
    population: int | None
    """None: not counted in the last 30 seconds."""


@dataclass(frozen=True, slots=True)
class NewRow:
    """A job to insert, with its one chunk."""

    job: NewJob
    lane: int
    enrolment_ids: Sequence[int] | None
    """Distinct and sorted; None: the chunk names the job's learner."""
    state: str
    """`queued`, `held` or `scheduled`."""
    learners: int
    figures: dict[str, Any] | None = None
    """Of the brake that holds it."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """A job that was inserted."""

    id: int
    created_at: datetime
    effective_at: datetime


_LOOK = text(f"""
SELECT coalesce(j.id, r.job_id) AS job_id, coalesce(j.request_hash, r.request_hash) AS request_hash,
    coalesce(a.effective_at <= now(), true) AS is_due,
    CASE WHEN a.learner_external_id IS NOT NULL THEN
        ({IS_WITHDRAWN.format(organisation="a.organisation_id", person="a.learner_external_id")})::integer
    ELSE (SELECT count(DISTINCT e.learner_id)
        FROM (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id FROM lms.enrolments e
        WHERE e.id = ANY(a.enrolment_ids) AND e.organisation_id = a.organisation_id OFFSET 0) e
        WHERE {WOULD_WITHDRAW.format(organisation="a.organisation_id")}) END AS learners
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS a(n integer, organisation_id bigint, door text, key text,
    effective_at timestamptz, learner_external_id text, enrolment_ids bigint[])
-- each by its whole key: joined, tables that were never analysed were read from one end to the other
LEFT JOIN LATERAL (SELECT k.id, k.request_hash FROM withdrawals.jobs k WHERE k.organisation_id = a.organisation_id
    AND k.door = a.door AND k.idempotency_key = a.key OFFSET 0) j ON true
LEFT JOIN LATERAL (SELECT k.job_id, k.request_hash FROM withdrawals.receipts k
    WHERE k.organisation_id = a.organisation_id AND k.door = a.door AND k.idempotency_key = a.key OFFSET 0) r ON true
ORDER BY a.n
""")


def look(connection: Connection, wanted: Sequence[tuple[NewJob, Sequence[int] | None]]) -> list[Candidate]:
    """For each job that is asked for, with its ids: whether its key is known, and what admission has to know."""
    plan_by_index(connection)
    rows = [
        {
            "n": n,
            "organisation_id": job.organisation_id,
            "door": job.door,
            "key": job.key,
            "effective_at": _iso(job.effective_at),
            "learner_external_id": job.learner_external_id,
            "enrolment_ids": ids,
        }
        for n, (job, ids) in enumerate(wanted)
    ]
    return [
        Candidate(
            None if row.request_hash is None else (row.job_id, bytes(row.request_hash)), row.is_due, int(row.learners)
        )
        for row in connection.execute(_LOOK, {"rows": json.dumps(rows)})
    ]


_LOCK = text("""
INSERT INTO withdrawals.organisation_settings (organisation_id)
SELECT organisation_id FROM unnest(:organisation_ids) AS wanted(organisation_id) ORDER BY organisation_id
ON CONFLICT (organisation_id) DO UPDATE SET organisation_id = excluded.organisation_id
RETURNING organisation_id, brake_floor, brake_share, brake_hours
""").bindparams(bindparam("organisation_ids", type_=Ids))


def lock_settings(connection: Connection, organisation_ids: Iterable[int], defaults: Brake) -> dict[int, Brake]:
    """Lock the settings rows of organisations in the order of their ids, made where missing; their limits."""
    found = connection.execute(_LOCK, {"organisation_ids": sorted(organisation_ids)})
    return {
        row.organisation_id: Brake(
            defaults.floor if row.brake_floor is None else row.brake_floor,
            defaults.share if row.brake_share is None else row.brake_share,
            defaults.hours if row.brake_hours is None else row.brake_hours,
        )
        for row in found
    }


_VOLUMES = text("""
SELECT w.organisation_id, coalesce(sum(v.jobs + v.redrives), 0) AS volume,
    (SELECT s.population FROM withdrawals.organisation_settings s WHERE s.organisation_id = w.organisation_id
        AND s.counted_at > clock_timestamp() - interval '30 s') AS population
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(organisation_id bigint, hours integer)
-- a minute counts until all of it has left the window
LEFT JOIN withdrawals.brake_volume v ON v.organisation_id = w.organisation_id
    AND v.minute > now() - make_interval(hours => w.hours, mins => 1)
GROUP BY w.organisation_id
""")


def volumes(connection: Connection, limits: dict[int, Brake]) -> dict[int, Volume]:
    """What the brake has counted of organisations whose settings rows are locked."""
    rows = [{"organisation_id": found, "hours": limit.hours} for found, limit in limits.items()]
    found = connection.execute(_VOLUMES, {"rows": json.dumps(rows)})
    return {row.organisation_id: Volume(int(row.volume), row.population) for row in found}


_INSERT = text("""
WITH
asked AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS a(n integer, organisation_id bigint, requested_by text,
        door text, idempotency_key text, request_hash text, reason text, source text, note text, kind text,
        learner_external_id text, epoch bigint, deactivated_external_id text, effective_at timestamptz,
        accepted integer, duplicates integer, state text, learners bigint, brake jsonb, lane smallint,
        enrolment_ids bigint[], request_id text, traceparent text)
),
-- In the order of their keys, so that two sets with the same keys wait for each other and not both for the other.
made AS (
    INSERT INTO withdrawals.jobs (organisation_id, requested_by, door, idempotency_key, request_hash, reason, source,
        note, kind, learner_external_id, epoch, deactivated_external_id, effective_at, accepted, duplicates, state,
        learners, held_because, brake, request_id, traceparent, admitted_at)
    SELECT organisation_id, requested_by, door, idempotency_key, decode(request_hash, 'hex'), reason, source,
        note, kind, learner_external_id, epoch, deactivated_external_id, coalesce(effective_at, now()), accepted,
        duplicates, state, learners, CASE WHEN state = 'held' THEN 'brake' END, brake, request_id, traceparent,
        CASE WHEN state = 'queued' THEN now() END
    FROM asked ORDER BY organisation_id, door, idempotency_key
    ON CONFLICT (organisation_id, door, idempotency_key) DO NOTHING
    RETURNING id, organisation_id, door, idempotency_key, created_at, effective_at
),
inserted AS (
    SELECT m.id, m.created_at, m.effective_at, a.* FROM made m
    JOIN asked a(n, organisation_id, requested_by, door, idempotency_key, request_hash, reason, source, note, kind,
        learner_external_id, epoch, deactivated_external_id, wanted_at, accepted, duplicates, state, learners, brake,
        lane, enrolment_ids) USING (organisation_id, door, idempotency_key)
),
chunked AS (
    INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, state, enrolment_ids, learner_external_id,
        size, digest)
    SELECT id, organisation_id, 0, lane, CASE state WHEN 'queued' THEN 'ready' ELSE 'waiting' END, enrolment_ids,
        learner_external_id, accepted,
        (SELECT bit_xor(hashint8extended(one, inserted.id)) FROM unnest(enrolment_ids) AS listed(one))
    FROM inserted ORDER BY id
),
counted AS (
    INSERT INTO withdrawals.brake_volume AS known (organisation_id, minute, jobs)
    SELECT organisation_id, date_trunc('minute', now()), sum(learners) FROM inserted
    WHERE state = 'queued' GROUP BY organisation_id ORDER BY organisation_id
    ON CONFLICT (organisation_id, minute) DO UPDATE SET jobs = known.jobs + excluded.jobs
),
audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id)
    SELECT organisation_id, requested_by, 'job.submit', id FROM inserted ORDER BY id
)
SELECT n, id, created_at, effective_at FROM inserted
""")


def insert_jobs(connection: Connection, rows: Sequence[NewRow]) -> dict[int, Inserted]:
    """Insert jobs, each with its chunk and its audit row, and count the learners of those that are queued.

    By the place of a row: what was inserted. A row is missing when its key was taken meanwhile.
    """
    given = json.dumps([{"n": n, **_as_json(row)} for n, row in enumerate(rows)])
    found = connection.execute(_INSERT, {"rows": given})
    return {row.n: Inserted(row.id, row.created_at, row.effective_at) for row in found}


def _as_json(row: NewRow) -> dict[str, Any]:
    job = row.job
    return {
        "organisation_id": job.organisation_id,
        "requested_by": job.requested_by,
        "door": job.door,
        "idempotency_key": job.key,
        "request_hash": job.request_hash.hex(),
        "reason": job.reason,
        "source": job.source,
        "note": job.note,
        "kind": job.kind,
        "learner_external_id": job.learner_external_id,
        "epoch": job.epoch,
        "deactivated_external_id": job.deactivated_external_id,
        "effective_at": _iso(job.effective_at),
        "accepted": job.accepted,
        "duplicates": job.duplicates,
        "state": row.state,
        "learners": row.learners,
        "brake": row.figures,
        "lane": row.lane,
        "enrolment_ids": row.enrolment_ids,
        "request_id": job.request_id,
        "traceparent": job.traceparent,
    }


def _iso(when: Any) -> str | None:
    return None if when is None else when.isoformat()
