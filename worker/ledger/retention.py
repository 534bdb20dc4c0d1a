"""What was kept long enough: jobs at rest whose details go, with the record that explains why they are gone.

First a job is marked, in the transaction that writes the record. From then on its details count as gone, for readers
and for the books. They are deleted afterwards, in batches, so a process that dies leaves nothing that the next one
cannot finish. The job's row stays: it answers its key.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from worker.ledger.fragments import CLOSED_WHOLE, LIVE, plan_by_index, sql_list

LOCK_SECONDS = 2.0
"""Whoever waits for a lock makes others wait behind it."""


_ORGANISATIONS = text("""
WITH RECURSIVE o AS (
    (SELECT min(organisation_id) AS id FROM withdrawals.jobs)
    UNION ALL
    SELECT (SELECT min(j.organisation_id) FROM withdrawals.jobs j WHERE j.organisation_id > o.id)
    FROM o WHERE o.id IS NOT NULL
)
SELECT id FROM o WHERE id IS NOT NULL
""")


def organisations(connection: Connection) -> list[int]:
    """Every organisation that has jobs, also one that the platform has deleted."""
    return list(connection.scalars(_ORGANISATIONS))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that may be pruned, or one that is marked and still has details."""

    id: int
    weight: int
    """Enrolments that it accepted."""
    marked: bool


@dataclass(frozen=True, slots=True)
class Window:
    """What was found among the next jobs of an organisation, by rising id."""

    candidates: list[Candidate]
    last_id: int
    """The last job that was looked at."""
    ended: bool
    """Whether all jobs from here on are too young."""


@dataclass(frozen=True, slots=True)
class PrunedJob:
    """What a record says of one job: how many of each outcome it had."""

    id: int
    counts: dict[str, int]
    digest: int


def begin(connection: Connection) -> None:
    """Let this transaction wait briefly for a lock, and read what it needs by index."""
    connection.execute(
        text("SELECT set_config('lock_timeout', :wait, true), set_config('statement_timeout', '0', true)"),
        {"wait": f"{int(LOCK_SECONDS * 1000)}ms"},
    )
    plan_by_index(connection)


_WAIT_FOR_OTHERS = text("SELECT pg_advisory_xact_lock(hashtextextended('withdrawals.prunes', 0))")


def wait_for_others(connection: Connection) -> None:
    """Let one transaction at a time choose rows and record them; what another one has deleted is not recorded twice."""
    connection.execute(_WAIT_FOR_OTHERS)


def at_rest(job: str) -> str:
    """Whether everything about a job had ended before `:before`: its chunks, its attempts at letters, its letters.

    OFFSET 0: the letters of a job are looked up by its rows. Without statistics all live ones were read for each job.
    """
    return f"""{job}.finished_at < :before AND NOT {job}.correct_due
    AND NOT EXISTS (SELECT FROM withdrawals.chunks c WHERE c.job_id = {job}.id
        AND (c.closed_at IS NULL OR c.closed_at >= :before) OFFSET 0)
    AND NOT EXISTS (SELECT FROM withdrawals.outcomes o CROSS JOIN LATERAL (
            SELECT d.state FROM withdrawals.dead_letters d WHERE d.id = o.dead_letter_id OFFSET 0) d
        WHERE o.job_id = {job}.id AND o.dead_letter_id IS NOT NULL AND d.state IN ({sql_list(LIVE)}) OFFSET 0)
    AND NOT EXISTS (SELECT FROM withdrawals.chunks c CROSS JOIN LATERAL (
            SELECT d.state FROM withdrawals.dead_letters d WHERE d.id IN (c.dead_letter_id, c.redrives) OFFSET 0) d
        WHERE c.job_id = {job}.id AND d.state IN ({sql_list(LIVE)}) OFFSET 0)"""


# An undo reads what the job withdrew until it has ended itself.
_MAY_GO = f"""{at_rest("j")} AND NOT EXISTS (
    SELECT FROM withdrawals.jobs u WHERE u.reinstates = j.id AND NOT ({at_rest("u")}))"""

_LOOK = text(f"""
WITH looked AS MATERIALIZED (
    SELECT * FROM withdrawals.jobs WHERE organisation_id = :organisation_id AND id > :after ORDER BY id LIMIT :window
)
SELECT j.id, j.accepted, j.created_at < :before AS is_old, j.prune_id IS NOT NULL AS marked,
    CASE WHEN j.prune_id IS NULL THEN {_MAY_GO}
        ELSE EXISTS (SELECT FROM withdrawals.chunks c WHERE c.job_id = j.id OFFSET 0)
            OR EXISTS (SELECT FROM withdrawals.outcomes o WHERE o.job_id = j.id OFFSET 0) END AS is_candidate
FROM looked j ORDER BY j.id
""")


def look(connection: Connection, organisation_id: int, *, after: int, before: datetime, window: int = 2000) -> Window:
    """The candidates among the next jobs of an organisation; nothing is locked.

    `before`: everything about a job must have ended by then.
    """
    values = {"organisation_id": organisation_id, "after": after, "before": before, "window": window}
    rows = connection.execute(_LOOK, values).all()
    found = [Candidate(row.id, row.accepted, row.marked) for row in rows if row.is_candidate]
    ended = len(rows) < window or not any(row.is_old for row in rows)
    return Window(found, rows[-1].id if rows else after, ended)


# FOR UPDATE: an undo that is being accepted holds a share of the key of the job that it takes back.
_LOCK = text("""
SELECT j.id FROM withdrawals.jobs j WHERE j.id = ANY(:ids) AND j.organisation_id = :organisation_id
    AND j.prune_id IS NULL ORDER BY j.id FOR UPDATE SKIP LOCKED
""")
# A second statement: it sees what has committed before the locks were granted.
_STILL = text(f"""
SELECT j.id FROM withdrawals.jobs j WHERE j.id = ANY(:ids) AND j.organisation_id = :organisation_id
    AND j.prune_id IS NULL AND {_MAY_GO} ORDER BY j.id
""")


def lock(connection: Connection, organisation_id: int, job_ids: Sequence[int], *, before: datetime) -> list[int]:
    """Lock those of these jobs that may still go and that nobody else has locked."""
    values: dict[str, Any] = {"organisation_id": organisation_id, "before": before}
    locked = list(connection.scalars(_LOCK, {**values, "ids": list(job_ids)}))
    return list(connection.scalars(_STILL, {**values, "ids": locked}))


# `said`: what the chunks of each job counted. `found`: its outcomes, and the ids of chunks that were closed whole.
_COUNT = text(f"""
WITH said AS (
    SELECT job_id, jsonb_object_agg(outcome, n) AS counts, sum(n) AS n FROM (
        SELECT c.job_id, key AS outcome, sum(value::integer) AS n
        FROM withdrawals.chunks c, jsonb_each_text(c.counts) WHERE c.job_id = ANY(:ids)
        GROUP BY 1, 2 HAVING sum(value::integer) <> 0) s GROUP BY 1
), found AS (
    SELECT job_id, jsonb_object_agg(outcome, n) AS counts FROM (
        SELECT job_id, outcome, sum(n) AS n FROM (
            SELECT job_id, outcome, count(*) AS n FROM withdrawals.outcomes WHERE job_id = ANY(:ids) GROUP BY 1, 2
            UNION ALL SELECT job_id, state, sum(size) FROM withdrawals.job_chunks
                WHERE job_id = ANY(:ids) AND state IN ({sql_list(CLOSED_WHOLE)}) GROUP BY 1, 2) x
        GROUP BY 1, 2) f GROUP BY 1
), digests AS (
    SELECT job_id, bit_xor(hashtextextended(CAST(ROW(job_id, enrolment_id, organisation_id, chunk_id, outcome,
        prior_status, pathway_id, dead_letter_id, extract(epoch FROM decided_at), reinstated_by) AS text), 0)) AS digest
    FROM withdrawals.outcomes WHERE job_id = ANY(:ids) GROUP BY 1
)
SELECT j.id, coalesce(f.counts, '{{}}') AS counts, coalesce(d.digest, 0) AS digest,
    s.counts IS NOT DISTINCT FROM f.counts
        AND (j.learner_external_id IS NOT NULL OR j.accepted = coalesce(s.n, 0)) AS balances
FROM withdrawals.jobs j
LEFT JOIN said s ON s.job_id = j.id LEFT JOIN found f ON f.job_id = j.id LEFT JOIN digests d ON d.job_id = j.id
WHERE j.id = ANY(:ids) AND j.organisation_id = :organisation_id ORDER BY j.id
""")


def count(connection: Connection, organisation_id: int, job_ids: Sequence[int]) -> tuple[list[PrunedJob], list[int]]:
    """What these jobs did, and which of them do not balance: nothing may be pruned that the books would name."""
    rows = connection.execute(_COUNT, {"organisation_id": organisation_id, "ids": list(job_ids)}).all()
    jobs = [PrunedJob(row.id, row.counts, row.digest) for row in rows if row.balances]
    return jobs, [row.id for row in rows if not row.balances]


_RECORD = text("""
INSERT INTO withdrawals.prunes (id, kind, organisation_id, day, row_count, counts, digest, files, pruned_by)
VALUES (0, :kind, :organisation_id, :day, :row_count, CAST(:counts AS jsonb), :digest, CAST(:files AS jsonb), :actor)
RETURNING id
""")
_RECORD_WITHDRAWALS = text("""
INSERT INTO withdrawals.pruned_withdrawals (organisation_id, day, requested_by, reason, prune_id, withdrawals)
SELECT j.organisation_id, CAST(o.decided_at AT TIME ZONE 'UTC' AS date), j.requested_by, j.reason, :prune_id, count(*)
FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id
WHERE o.job_id = ANY(:ids) AND o.outcome = 'withdrawn' AND j.organisation_id = :organisation_id GROUP BY 1, 2, 3, 4
""")
_MARK = text("""
UPDATE withdrawals.jobs j SET prune_id = :prune_id, pruned_counts = m.counts
FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS m(id bigint, counts jsonb)
WHERE j.id = m.id AND j.organisation_id = :organisation_id
""")


def mark(
    connection: Connection, organisation_id: int, jobs: Sequence[PrunedJob], *, actor: str, files: list[dict[str, Any]]
) -> None:
    """Write the record of these locked jobs, and mark them: from now on their details count as gone."""
    counts: dict[str, int] = {}
    digest = 0
    for job in jobs:
        digest ^= job.digest
        for outcome, number in job.counts.items():
            counts[outcome] = counts.get(outcome, 0) + number
    prune_id = record(
        connection, "jobs", organisation_id,
        row_count=len(jobs), digest=digest, actor=actor, files=files, counts=counts,
    )  # fmt: skip
    values = {"prune_id": prune_id, "organisation_id": organisation_id}
    connection.execute(_RECORD_WITHDRAWALS, {**values, "ids": [job.id for job in jobs]})
    connection.execute(_MARK, {**values, "jobs": json.dumps([{"id": job.id, "counts": job.counts} for job in jobs])})


def record(
    connection: Connection,
    kind: str,
    organisation_id: int,
    *,
    row_count: int,
    digest: int,
    actor: str,
    files: list[dict[str, Any]],
    day: Any = None,
    counts: dict[str, int] | None = None,
) -> int:
    """Write a record; its id. Whoever else records waits until this transaction has ended."""
    values = {
        "kind": kind, "organisation_id": organisation_id, "day": day, "row_count": row_count, "digest": digest,
        "counts": json.dumps(counts or {}), "files": json.dumps(files), "actor": actor,
    }  # fmt: skip
    return int(connection.scalar(_RECORD, values) or 0)


# The chunks go last: a job that has one is not cleared yet.
_CLEAR_OUTCOMES = text("""
DELETE FROM withdrawals.outcomes WHERE (job_id, enrolment_id) IN (
    SELECT o.job_id, o.enrolment_id FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id
    WHERE o.job_id = ANY(:ids) AND j.prune_id IS NOT NULL AND j.organisation_id = :organisation_id LIMIT :most)
""")
_CLEAR_LINES = text("""
DELETE FROM withdrawals.file_lines WHERE (job_id, first_id) IN (
    SELECT f.job_id, f.first_id FROM withdrawals.file_lines f JOIN withdrawals.jobs j ON j.id = f.job_id
    WHERE f.job_id = ANY(:ids) AND j.prune_id IS NOT NULL AND j.organisation_id = :organisation_id LIMIT :most)
""")
_CLEAR_CHUNKS = text("""
WITH gone AS MATERIALIZED (
    SELECT c.id FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE c.job_id = ANY(:ids) AND j.prune_id IS NOT NULL AND j.organisation_id = :organisation_id LIMIT :most
), attempts AS (
    DELETE FROM withdrawals.attempts WHERE chunk_id IN (SELECT id FROM gone)
)
DELETE FROM withdrawals.chunks WHERE id IN (SELECT id FROM gone)
""")


def clear(connection: Connection, organisation_id: int, job_ids: Sequence[int], *, most: int) -> int:
    """Delete up to `most` of the rows that marked jobs still have; how many. 0: they are cleared."""
    values = {"organisation_id": organisation_id, "ids": list(job_ids), "most": most}
    for statement in (_CLEAR_OUTCOMES, _CLEAR_LINES, _CLEAR_CHUNKS):
        if gone := connection.execute(statement, values).rowcount:
            return gone
    return 0


_SIZES = text("""
SELECT (SELECT count(*) FROM withdrawals.outcomes o WHERE o.job_id = ANY(:ids)) AS outcomes,
    (SELECT coalesce(sum(pg_column_size(o)), 0) FROM withdrawals.outcomes o WHERE o.job_id = ANY(:ids))
    + (SELECT coalesce(sum(pg_column_size(c)), 0) FROM withdrawals.chunks c WHERE c.job_id = ANY(:ids)) AS bytes,
    (SELECT min(finished_at) FROM withdrawals.jobs j WHERE j.id = ANY(:ids)) AS oldest
""")


def measure(connection: Connection, job_ids: Sequence[int]) -> tuple[int, int, datetime | None]:
    """Outcomes of jobs, bytes of their outcomes and chunks without indexes, and when the first of them ended."""
    row = connection.execute(_SIZES, {"ids": list(job_ids)}).one()
    return int(row.outcomes), int(row.bytes), row.oldest
