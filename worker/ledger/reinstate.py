"""The decision of a reinstate, in sets: lock learners, then (with every other chunk's) enrolments, decide, write.

As in `worker/ledger/decide.py` the deciding statement comes after the locks, so that it sees what they hold.
The learners' locks keep two reinstates of one learner apart, and a deactivation. A new enrolment of the
platform is kept out by them where it refers to its learner; else, or by a status that comes back, it can slip
in until the very write: then the unique index refuses, and the whole transaction is tried again.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from worker.records import Decided, NewChunks
from worker.rules import ACTIVE, WITHDRAWN

_ACTIVE = ", ".join(f"'{status}'" for status in ACTIVE)

_LOCK_LEARNERS = text("""
SELECT l.id FROM lms.learners l WHERE l.id IN (
    SELECT e.learner_id FROM lms.enrolments e WHERE e.id = ANY(ARRAY(
        SELECT unnest(c.enrolment_ids) FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)))
    UNION
    SELECT p.id FROM withdrawals.chunks c
    JOIN lms.learners p ON p.organisation_id = c.organisation_id AND p.external_id = c.learner_external_id
    WHERE c.id = ANY(:persons))
ORDER BY l.id FOR UPDATE
""")


def lock_learners(connection: Connection, chunk_ids: Sequence[int], person_chunk_ids: Sequence[int]) -> list[int]:
    """Lock the learners of reinstate chunks, with those of the person chunks claimed beside them, in one order."""
    values = {"chunks": list(chunk_ids), "persons": list(person_chunk_ids)}
    return list(connection.scalars(_LOCK_LEARNERS, values))


# Over an asked row `a`, the job `w` it takes back, that job's outcome `o`, the enrolment `e` and its learner `l`.
_RULES = f"""CASE
    WHEN o.enrolment_id IS NULL OR l.id IS NULL OR (e.status, e.withdrawn_at, e.withdrawal_reason, e.withdrawn_by)
        IS DISTINCT FROM ('{WITHDRAWN}', o.decided_at, w.reason, w.requested_by) THEN 'changed_since'
    WHEN NOT l.active THEN 'learner_inactive'
    WHEN EXISTS (SELECT 1 FROM lms.enrolments x WHERE x.learner_id = e.learner_id AND x.series_id = e.series_id
        AND x.pathway_id IS NOT DISTINCT FROM e.pathway_id AND x.status IN ({_ACTIVE}))
        OR {{newer}} THEN 'enrolled_again'
    ELSE 'reinstated' END"""

# `turn`: of several jobs that would reinstate one enrolment here the first does; `place`: of several enrolments
# with one key, the newest.
_RANKED = """
ranked AS (
    SELECT s.*, row_number() OVER (PARTITION BY verdict, enrolment_id ORDER BY job_id) AS turn FROM seen s
), placed AS (
    SELECT r.*, row_number() OVER (PARTITION BY verdict, turn, learner_id, series_id, pathway_id
        ORDER BY enrolled_at DESC, enrolment_id DESC) AS place FROM ranked r
)"""
_OUTCOME = """CASE WHEN verdict <> 'reinstated' THEN verdict WHEN turn > 1 THEN 'changed_since'
    WHEN place > 1 THEN 'enrolled_again' ELSE 'reinstated' END"""

# A newer enrolment with the same key that this job would reinstate too, and has not decided: it is the one.
# `+ 0`: to be found by its learner; a Series has a million enrolments, whose index the planner would read for each.
_NEWER = f"""EXISTS (
    SELECT 1 FROM lms.enrolments f JOIN withdrawals.outcomes n ON n.job_id = a.reinstates AND n.enrolment_id = f.id
    WHERE f.learner_id = e.learner_id AND f.series_id + 0 = e.series_id
        AND f.pathway_id IS NOT DISTINCT FROM e.pathway_id
        AND (f.enrolled_at, f.id) > (e.enrolled_at, e.id) AND f.status = '{WITHDRAWN}'
        AND n.outcome = 'withdrawn' AND n.reinstated_by IS NULL AND f.withdrawn_at = n.decided_at
        AND f.withdrawal_reason = w.reason AND f.withdrawn_by = w.requested_by
        AND EXISTS (SELECT 1 FROM withdrawals.chunks m WHERE m.job_id = a.job_id AND f.id = ANY(m.enrolment_ids)
            AND m.redrives IS NULL AND m.state IN ('waiting', 'ready', 'claimed')))"""

_JOINS = """
    JOIN withdrawals.jobs w ON w.id = a.reinstates
    LEFT JOIN withdrawals.outcomes o ON o.job_id = a.reinstates AND o.enrolment_id = a.enrolment_id
        AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL"""

_DECIDE = text(f"""
WITH asked AS (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.redrives, j.reinstates,
        unnest(c.enrolment_ids) AS enrolment_id
    FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks)
), seen AS MATERIALIZED (
    SELECT a.*, e.status, e.learner_id, e.series_id, e.pathway_id, e.enrolled_at, o.prior_status,
        {_RULES.format(newer=_NEWER)} AS verdict
    FROM asked a {_JOINS}
    LEFT JOIN lms.enrolments e ON e.id = a.enrolment_id AND e.organisation_id = a.organisation_id
        AND e.id = ANY(:locked)
    LEFT JOIN lms.learners l ON l.id = e.learner_id AND l.id = ANY(:learners)
), {_RANKED}, decided AS MATERIALIZED (
    SELECT p.*, {_OUTCOME} AS outcome, (SELECT x.outcome FROM withdrawals.outcomes x WHERE p.redrives IS NOT NULL
        AND x.job_id = p.job_id AND x.enrolment_id = p.enrolment_id) AS before
    FROM placed p
), reinstated AS (
    UPDATE lms.enrolments e SET status = d.prior_status, withdrawn_at = NULL, withdrawal_reason = NULL,
        withdrawn_by = NULL
    FROM decided d WHERE e.id = d.enrolment_id AND d.outcome = 'reinstated' AND e.status = '{WITHDRAWN}'
    RETURNING e.id
), taken_back AS (
    UPDATE withdrawals.outcomes o SET reinstated_by = d.job_id
    FROM decided d WHERE d.outcome = 'reinstated' AND o.job_id = d.reinstates AND o.enrolment_id = d.enrolment_id
        AND o.reinstated_by IS NULL
    RETURNING o.enrolment_id
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id)
    SELECT job_id, enrolment_id, organisation_id, chunk_id, outcome, status, pathway_id
    FROM decided WHERE before IS NULL
), replaced AS (
    UPDATE withdrawals.outcomes o SET outcome = d.outcome, prior_status = d.status, pathway_id = d.pathway_id,
        decided_at = now()
    FROM decided d WHERE o.job_id = d.job_id AND o.enrolment_id = d.enrolment_id AND d.before <> d.outcome
    RETURNING o.enrolment_id, o.job_id
), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, detail)
    SELECT d.organisation_id, c.asked_by, 'outcome.replaced', d.job_id, d.redrives,
        jsonb_build_object('enrolment_id', d.enrolment_id, 'before', d.before, 'after', d.outcome)
    FROM replaced r JOIN decided d USING (enrolment_id, job_id) JOIN withdrawals.chunks c ON c.id = d.chunk_id
), counts AS MATERIALIZED (
    SELECT chunk_id, jsonb_object_agg(outcome, change) FILTER (WHERE change <> 0) AS counts FROM (
        SELECT chunk_id, outcome, sum(change) AS change FROM (
            SELECT chunk_id, outcome, 1 AS change FROM decided
            UNION ALL SELECT chunk_id, before, -1 FROM decided WHERE before IS NOT NULL) changes
        GROUP BY 1, 2) c GROUP BY 1
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
        counts = coalesce((SELECT counts FROM counts WHERE chunk_id = c.id), '{{}}')
    WHERE c.id = ANY(:chunks) AND c.state = 'claimed'
    RETURNING c.id, c.job_id, c.counts
)
SELECT id AS chunk_id, job_id, counts, (SELECT count(*) FROM reinstated) AS changed,
    (SELECT count(*) FROM taken_back) AS taken_back,
    (SELECT count(*) FROM decided WHERE outcome = 'reinstated') AS reinstated FROM closed
""")


def decide(
    connection: Connection, chunk_ids: Sequence[int], *, learners: Sequence[int], locked: Sequence[int]
) -> list[Decided]:
    """Decide locked chunks over locked learners and enrolments; write enrolments, outcomes, audit and chunks.

    An integrity error of the unique index means that an enrolment slipped in: roll back, and decide again.
    """
    values = {"chunks": list(chunk_ids), "learners": list(learners), "locked": list(locked)}
    rows = connection.execute(_DECIDE, values).all()
    if rows and not rows[0].changed == rows[0].taken_back == rows[0].reinstated:
        raise RuntimeError("an enrolment that was locked as withdrawn was not reinstated")
    return [Decided(row.chunk_id, row.job_id, row.counts) for row in rows]


# What a part selects of what a job withdrew and nobody took back; without conditions also what is gone since.
_WITHDRAWN = """withdrawals.outcomes o
    LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = :organisation_id"""
_WANTED = """o.job_id = :reinstates AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL
        AND (CAST(:enrolment_ids AS bigint[]) IS NULL OR o.enrolment_id = ANY(:enrolment_ids))
        AND (CAST(:series_id AS bigint) IS NULL OR e.series_id = :series_id)
        AND (CAST(:pathway_id AS bigint) IS NULL OR e.pathway_id = :pathway_id)
        AND (CAST(:learner_ids AS bigint[]) IS NULL OR e.learner_id = ANY(:learner_ids))
        AND (CAST(:enrolled_before AS timestamptz) IS NULL OR e.enrolled_at < :enrolled_before)
        AND (CAST(:enrolled_after AS timestamptz) IS NULL OR e.enrolled_at > :enrolled_after)"""
_SELECTED = f"SELECT o.enrolment_id AS id FROM {_WITHDRAWN} WHERE {_WANTED}"
_FREEZE = text(f"""
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state)
SELECT :job_id, :organisation_id, number, :lane, array_agg(id ORDER BY id), count(*), :state
FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / :chunk_size AS number FROM ({_SELECTED}) ids) numbered
GROUP BY number
RETURNING size
""")


def freeze(connection: Connection, reinstates: int, part: dict[str, Any], chunks: NewChunks) -> int:
    """Freeze what a part selects of job `reinstates` into chunks; how many ids."""
    values: dict[str, Any] = {"job_id": chunks.job_id, "organisation_id": chunks.organisation_id, "lane": chunks.lane}
    values |= {"state": chunks.state, "chunk_size": chunks.size}
    return sum(connection.scalars(_FREEZE, {"reinstates": reinstates, **part, **values}))


# The outcomes are read once, by the job: of one that has just ended the planner knows no rows yet, and would join
# them with themselves each with each.
_PREVIEW = text(f"""
WITH seen AS MATERIALIZED (
    SELECT o.job_id, o.enrolment_id, e.learner_id, e.series_id, e.pathway_id, e.enrolled_at,
        {_RULES.format(newer="false")} AS verdict
    FROM {_WITHDRAWN} JOIN withdrawals.jobs w ON w.id = o.job_id LEFT JOIN lms.learners l ON l.id = e.learner_id
    WHERE {_WANTED}
), {_RANKED}
SELECT outcome, count(*) AS n, (array_agg(enrolment_id ORDER BY enrolment_id))[1:5] AS samples
FROM (SELECT enrolment_id, {_OUTCOME} AS outcome FROM placed) decided GROUP BY outcome ORDER BY outcome
""")


_LEARNERS = text(f"""
SELECT count(DISTINCT e.learner_id) FROM ({_SELECTED}) ids
JOIN lms.enrolments e ON e.id = ids.id AND e.organisation_id = :organisation_id
""")


def learners(connection: Connection, organisation_id: int, reinstates: int, part: dict[str, Any]) -> int:
    """How many learners a reinstate would be about."""
    values = {"organisation_id": organisation_id, "reinstates": reinstates, **part}
    return int(connection.scalar(_LEARNERS, values) or 0)


def preview(
    connection: Connection, organisation_id: int, reinstates: int, part: dict[str, Any]
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """The outcomes that a reinstate would have now, counted and with some of their ids; nothing is locked."""
    rows = connection.execute(_PREVIEW, {"organisation_id": organisation_id, "reinstates": reinstates, **part}).all()
    return {row.outcome: int(row.n) for row in rows}, {row.outcome: list(row.samples) for row in rows}
