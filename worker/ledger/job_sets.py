"""Jobs in sets: one statement a step for all requests that share a transaction, a single one included.

Rows go in as one JSON document, so that a statement is the same text, and keeps its plan, for any number of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from schemas.catalogue import GuardedAct
from worker.brake_limits import Brake
from worker.database import BY_ORDER
from worker.ledger import brake
from worker.ledger.fragments import IS_WITHDRAWN, WOULD_WITHDRAW, plan_by_order, planned
from worker.one_message import Part, Step, at_once
from worker.records import NewJob


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
    state: str


# Each by its whole key, from the one index that has the keys in their order (`plan_by_order`). Asked for by equality,
# and planned while the table was small, a request read all jobs of its organisation until the table was next analysed.
_BY_KEY = """(k.organisation_id, k.door, k.idempotency_key) >= (a.organisation_id, a.door, a.idempotency_key)
    AND (k.organisation_id, k.door, k.idempotency_key) <= (a.organisation_id, a.door, a.idempotency_key)
    ORDER BY k.organisation_id, k.door, k.idempotency_key LIMIT 1"""

# As bytes: what the server logs of a statement that failed has no note or key in plain text (`at_once`).
_ROWS = "CAST(convert_from(CAST(:rows AS bytea), 'UTF8') AS jsonb)"
_LOOK = f"""
-- how long this transaction waits for a lock, set before it asks for one
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', coalesce(CAST(:wait AS text), current_setting('lock_timeout')), true)
), asked AS MATERIALIZED (
    SELECT a.* FROM patience CROSS JOIN jsonb_to_recordset({_ROWS}) AS a(n integer, organisation_id bigint, door text,
        idempotency_key text, effective_at timestamptz, learner_external_id text, enrolment_ids bigint[])
),
looked AS MATERIALIZED (
    SELECT a.n, a.organisation_id, coalesce(j.id, r.job_id) AS job_id,
        coalesce(j.request_hash, r.request_hash) AS request_hash, coalesce(a.effective_at <= now(), true) AS is_due,
        a.learner_external_id IS NOT NULL AS names_person,
        CASE WHEN a.learner_external_id IS NOT NULL THEN
            ({IS_WITHDRAWN.format(organisation="a.organisation_id", person="a.learner_external_id")})::integer
        ELSE (SELECT count(DISTINCT e.learner_id) FROM (
            SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id FROM lms.enrolments e
            WHERE e.id = ANY(a.enrolment_ids) AND e.organisation_id = a.organisation_id OFFSET 0) e
            WHERE {WOULD_WITHDRAW.format(organisation="a.organisation_id")}) END AS learners
    FROM asked a
    LEFT JOIN LATERAL (SELECT k.id, k.request_hash FROM withdrawals.jobs k WHERE {_BY_KEY}) j ON true
    LEFT JOIN LATERAL (SELECT k.job_id, k.request_hash FROM withdrawals.receipts k WHERE {_BY_KEY}) r ON true
),
-- the settings of those for whom the brake is asked, or who name a person, whom an erasure may be about: locked in the
-- order of their ids, made where missing
locked AS (
    INSERT INTO withdrawals.organisation_settings (organisation_id)
    SELECT DISTINCT organisation_id FROM looked WHERE request_hash IS NULL AND (is_due OR names_person)
    ORDER BY organisation_id
    ON CONFLICT (organisation_id) DO UPDATE SET organisation_id = excluded.organisation_id
    RETURNING organisation_id, brake_floor, brake_share, brake_hours, policies
)
"""
_LOOK_AND_LOCK = text(
    _LOOK
    + """
SELECT looked.*, locked.organisation_id AS locked_id, brake_floor, brake_share, brake_hours, policies
FROM looked LEFT JOIN locked USING (organisation_id) ORDER BY n
"""
)


def look_and_lock(
    connection: Connection,
    wanted: Sequence[tuple[NewJob, Sequence[int] | None]],
    defaults: Brake,
    *,
    wait: timedelta | None = None,
) -> tuple[list[Candidate], dict[int, Brake]]:
    """For each job that is asked for, with its ids: whether its key is known, and what admission has to know.

    Then the limits of the organisations that ask for something new that is due, or about a person: their settings rows
    are locked. `wait`: for a lock of this transaction, if not as long as the session does.
    """
    plan_by_order(connection)
    rows = [
        {
            "n": n,
            "organisation_id": job.organisation_id,
            "door": job.door,
            "idempotency_key": job.key,
            "effective_at": _iso(job.effective_at),
            "learner_external_id": job.learner_external_id,
            "enrolment_ids": ids,
        }
        for n, (job, ids) in enumerate(wanted)
    ]
    candidates, limits = [], dict[int, Brake]()
    for row in connection.execute(_LOOK_AND_LOCK, {"rows": _as_bytes(rows), "wait": _milliseconds(wait)}):
        known = None if row.request_hash is None else (row.job_id, bytes(row.request_hash))
        candidates.append(Candidate(known, row.is_due, int(row.learners)))
        if row.locked_id is not None and row.locked_id not in limits:
            own = {"floor": row.brake_floor, "share": row.brake_share, "hours": row.brake_hours}
            own["policies"] = row.policies
            limits[row.locked_id] = brake.with_defaults(own, defaults)
    return candidates, limits


# The settings rows are locked by an earlier statement, so this one sees what was counted by whoever had them before.
_INSERT = """
WITH
limits AS MATERIALIZED (
    SELECT w.organisation_id, w.floor, coalesce((SELECT sum(v.jobs + v.redrives) FROM withdrawals.brake_volume v
            -- a minute counts until all of it has left the window
            WHERE v.organisation_id = w.organisation_id
            AND v.minute > now() - make_interval(hours => w.hours, mins => 1)), 0) AS volume,
        (SELECT s.population FROM withdrawals.organisation_settings s WHERE s.organisation_id = w.organisation_id
            AND s.counted_at > clock_timestamp() - interval '30 s') AS population
    FROM {limits}
),
asked AS MATERIALIZED (
    SELECT a.n, a.organisation_id, requested_by, door, idempotency_key, request_hash, reason, source, note, kind,
        learner_external_id, epoch, deactivated_external_id, effective_at, accepted, duplicates, {state} AS state,
        {learners} AS learners, brake, lane, enrolment_ids, request_id, traceparent
    FROM jsonb_to_recordset({rows}) AS a(n integer, organisation_id bigint, requested_by text,
        door text, idempotency_key text, request_hash text, reason text, source text, note text, kind text,
        learner_external_id text, epoch bigint, deactivated_external_id text, effective_at timestamptz,
        accepted integer, duplicates integer, state text, learners bigint, brake jsonb, lane smallint,
        enrolment_ids bigint[], request_id text, traceparent text){also}
),
past AS MATERIALIZED (
    SELECT organisation_id, volume, population FROM limits l WHERE l.floor <
        l.volume + (SELECT sum(learners) FROM asked a WHERE a.organisation_id = l.organisation_id AND state = 'queued')
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
    FROM asked WHERE organisation_id NOT IN (SELECT organisation_id FROM past)
    ORDER BY organisation_id, door, idempotency_key
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
SELECT n, id, created_at, effective_at, state, NULL AS organisation_id, NULL AS volume, NULL AS population FROM inserted
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, organisation_id, volume, population FROM past
"""
_INSERT_DECIDED = text(
    _INSERT.format(
        rows=_ROWS,
        limits="jsonb_to_recordset(CAST(:limits AS jsonb)) AS w(organisation_id bigint, floor bigint, hours integer)",
        state="a.state",
        learners="a.learners",
        also="",
    )
)

# What `_LOOK` has found goes from the first statement to the second by a setting of the transaction, so that nobody
# waits for an answer between them: the first locks, and the second, whose snapshot is newer, reads what is counted.
_FOUND = "withdrawals.new_jobs"
_HAS_PARTS = " OR ".join(
    f'policies @> \'[{{"act": "{act}"}}]\'' for act in (GuardedAct.WITHDRAW, GuardedAct.WITHDRAW_SERIES)
)
_LOOK_AT_ONCE = Step(
    "jobs_look",
    _LOOK
    + f""",
found AS (
    SELECT set_config('{_FOUND}', coalesce(jsonb_agg(jsonb_build_object('n', n, 'organisation_id', organisation_id,
        'is_due', is_due, 'learners', learners, 'floor', l.floor, 'hours', l.hours))
        FILTER (WHERE request_hash IS NULL), '[]')::text, true)
    FROM looked LEFT JOIN (
        -- a limit for a source or a Series is looked at job by job, as if all of them were past the floor
        SELECT organisation_id, coalesce(brake_hours, CAST(:hours AS integer)) AS hours,
            CASE WHEN {_HAS_PARTS} THEN -1 ELSE coalesce(brake_floor, CAST(:floor AS bigint)) END AS floor
        FROM locked) l USING (organisation_id)
)
SELECT looked.n, looked.job_id, looked.request_hash FROM found LEFT JOIN looked ON looked.request_hash IS NOT NULL
""",
)
_NEW = f"""jsonb_to_recordset(CAST(current_setting('{_FOUND}') AS jsonb))
        AS w(n integer, organisation_id bigint, is_due boolean, learners bigint, floor bigint, hours integer)"""
_INSERT_AT_ONCE = Step(
    "jobs_insert",
    _INSERT.format(
        rows=_ROWS,
        limits=f"(SELECT DISTINCT organisation_id, floor, hours FROM {_NEW} WHERE floor IS NOT NULL) w",
        state="CASE WHEN w.is_due THEN 'queued' ELSE 'scheduled' END",
        learners="w.learners",
        also=f" JOIN {_NEW} USING (n)",
    ),
)


def accept_at_once(
    connection: Connection,
    wanted: Sequence[tuple[NewJob, Sequence[int]]],
    lane: int,
    defaults: Brake,
    *,
    wait: timedelta | None = None,
    then: Sequence[Part] = (),
) -> tuple[dict[int, tuple[int | None, bytes]], dict[int, Inserted]]:
    """Look, lock and insert in one round trip; by the place of a request: the job of a key that is known, with the hash
    of its request, and the jobs that were inserted.

    Left out are those of organisations that are past the brake's floor or have limits for sources or Series, and those
    whose key was taken meanwhile. `wait`: for a lock, if not as long as the session does. `then`: what follows the
    commit in the same message.
    """
    rows = _as_bytes([_as_json(n, job, lane, ids) for n, (job, ids) in enumerate(wanted)])
    values = {"rows": rows, "floor": defaults.floor, "hours": defaults.hours, "wait": _milliseconds(wait)}
    steps = (_LOOK_AT_ONCE, values), (_INSERT_AT_ONCE, {"rows": rows})
    first = planned(connection, BY_ORDER)
    looked, inserted = at_once(connection, *first, *steps, then=then)[len(first) : len(first) + 2]
    known = {n: (job_id, bytes(request_hash)) for n, job_id, request_hash in looked if n is not None}
    return known, {row[0]: Inserted(*row[1:5]) for row in inserted if row[0] is not None}


def insert_jobs(
    connection: Connection, rows: Sequence[NewRow], limits: Mapping[int, Brake]
) -> tuple[dict[int, Inserted], dict[int, Volume]]:
    """Insert jobs, each with its chunk and its audit row, and count the learners of those that are queued.

    By the place of a row: what was inserted. A row is missing when its key was taken meanwhile.

    `limits`: of organisations whose settings rows are locked. If its queued jobs are past the floor, or it has limits
    for sources or Series, nothing of such an organisation is inserted; what the brake has counted of it is the second
    result.
    """
    given = {
        "rows": _as_bytes(
            [
                _as_json(n, row.job, row.lane, row.enrolment_ids)
                | {"state": row.state, "learners": row.learners, "brake": row.figures}
                for n, row in enumerate(rows)
            ]
        ),
        "limits": json.dumps(
            [
                # limits for parts are looked at job by job, as if all of them were past the floor
                {"organisation_id": key, "floor": -1 if one.has_parts else one.floor, "hours": one.hours}
                for key, one in limits.items()
            ]
        ),
    }
    inserted, past = dict[int, Inserted](), dict[int, Volume]()
    for row in connection.execute(_INSERT_DECIDED, given):
        if row.n is not None:
            inserted[row.n] = Inserted(row.id, row.created_at, row.effective_at, row.state)
        else:
            past[row.organisation_id] = Volume(int(row.volume), row.population)
    return inserted, past


def _as_json(n: int, job: NewJob, lane: int, enrolment_ids: Sequence[int] | None) -> dict[str, Any]:
    return {
        "n": n,
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
        "lane": lane,
        "enrolment_ids": enrolment_ids,
        "request_id": job.request_id,
        "traceparent": job.traceparent,
    }


def _milliseconds(wait: timedelta | None) -> str | None:
    return None if wait is None else str(round(wait / timedelta(milliseconds=1)))


def _as_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def _iso(when: Any) -> str | None:
    return None if when is None else when.isoformat()
