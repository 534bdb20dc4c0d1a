"""The decision in sets: lock what it looks at, then decide and write all of it in one statement.

Locking and deciding are two statements on purpose. Under READ COMMITTED a locking read returns the newest
version of a locked row, but whatever is joined beside it comes from the statement's older snapshot. So rows
are locked first; the deciding statement's snapshot is newer than every lock and sees just what they hold.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from worker.records import Decided
from worker.rules import ACTIVE, ENDED, NEEDS_SUPPORT, WITHDRAWN


def _list(values: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


RULES = f"""CASE
    WHEN e.id IS NULL THEN 'not_found'
    WHEN e.status = '{WITHDRAWN}' THEN 'already_withdrawn'
    WHEN e.status IN ({_list(ENDED)}) THEN 'enrolment_ended'
    WHEN a.superseded THEN 'superseded'
    WHEN e.status NOT IN ({_list(ACTIVE)}) THEN 'unknown_status'
    WHEN e.pathway_id IS NOT NULL AND NOT (a.override AND coalesce(a.override_pathway, e.pathway_id) = e.pathway_id)
        THEN 'pathway_owned'
    ELSE 'withdrawn' END"""
"""`rules.decide` as SQL, over an asked row `a` and its enrolment `e` of the same organisation, or none."""

# By steps, each letter from an index (OFFSET 0 keeps it so): over tables that were never analysed, the planner began
# with the organisation, and 150 chunks beside 300 letters took more than a second.
_LOCK_LETTERS = text("""
SELECT l.id FROM withdrawals.dead_letters l
WHERE l.state IN ('open', 'redriven') AND l.id IN (
    WITH given AS MATERIALIZED (
        SELECT c.organisation_id, c.redrives, c.enrolment_ids, c.learner_external_id
        FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)
    ), learners AS MATERIALIZED (
        SELECT p.id, g.organisation_id FROM given g
        JOIN lms.learners p ON p.organisation_id = g.organisation_id AND p.external_id = g.learner_external_id
    ), asked AS MATERIALIZED (
        SELECT unnest(g.enrolment_ids) AS id, g.organisation_id FROM given g
        UNION
        SELECT e.id, p.organisation_id FROM learners p JOIN lms.enrolments e ON e.learner_id = p.id
    )
    SELECT g.redrives FROM given g
    UNION
    SELECT d.id FROM asked a CROSS JOIN LATERAL (SELECT d.id FROM withdrawals.dead_letters d
        WHERE d.organisation_id = a.organisation_id AND d.enrolment_id = a.id
        AND d.state IN ('open', 'redriven') AND d.code <> 'invalid_event' OFFSET 0) d
    UNION
    SELECT d.id FROM given g CROSS JOIN LATERAL (SELECT d.id FROM withdrawals.dead_letters d
        WHERE d.organisation_id = g.organisation_id AND d.learner_external_id = g.learner_external_id
        AND d.state IN ('open', 'redriven') AND d.code <> 'invalid_event' OFFSET 0) d
    WHERE g.learner_external_id IS NOT NULL)
ORDER BY l.id FOR UPDATE
""")


def lock_letters(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Lock the live letters that these chunks redrive or may attach to, before the chunks themselves."""
    connection.execute(_LOCK_LETTERS, {"chunks": list(chunk_ids)})


_LOCK_LEARNERS = text("""
SELECT c.id AS chunk_id, l.id AS learner_id FROM withdrawals.chunks c
JOIN lms.learners l ON l.organisation_id = c.organisation_id AND l.external_id = c.learner_external_id
WHERE c.id = ANY(:chunks) ORDER BY l.id FOR UPDATE OF l
""")


def lock_learners(connection: Connection, chunk_ids: Sequence[int]) -> dict[int, int]:
    """Lock the learners of person chunks; chunk id to learner id, without chunks whose person is unknown."""
    rows = connection.execute(_LOCK_LEARNERS, {"chunks": list(chunk_ids)})
    return {row.chunk_id: row.learner_id for row in rows}


_DEACTIVATE = text("UPDATE lms.learners SET active = false WHERE id = ANY(:learners) AND active")


def deactivate_learners(connection: Connection, learner_ids: Sequence[int]) -> None:
    """Make learners inactive whose deactivation holds; one that was created after the event is still active."""
    connection.execute(_DEACTIVATE, {"learners": list(learner_ids)})


_LOCK_ENROLMENTS = text("""
SELECT e.id FROM lms.enrolments e WHERE e.id = ANY(ARRAY(
    SELECT unnest(c.enrolment_ids) FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)
    UNION ALL
    SELECT p.id FROM lms.enrolments p WHERE p.learner_id = ANY(:learners)))
ORDER BY e.id FOR UPDATE
""")


def lock_enrolments(connection: Connection, chunk_ids: Sequence[int], learner_ids: Sequence[int]) -> list[int]:
    """Lock every enrolment that the chunks name, by id or as the learner's; the ids that exist."""
    return list(connection.scalars(_LOCK_ENROLMENTS, {"chunks": list(chunk_ids), "learners": list(learner_ids)}))


# `home` is the chunk an outcome belongs to: a person whose chunk had failed whole gets the outcomes there.
# Of several jobs that would withdraw the same enrolment here, the one accepted first does.
_DECIDE = text(f"""
WITH asked AS (
    SELECT c.id AS chunk_id, c.id AS home, c.job_id, c.organisation_id, c.redrives, c.override,
        c.override_pathway,
        c.id = ANY(:superseded) AS superseded, unnest(c.enrolment_ids) AS enrolment_id
    FROM withdrawals.chunks c WHERE c.id = ANY(:chunks) AND c.enrolment_ids IS NOT NULL
    UNION ALL
    SELECT c.id, coalesce(f.id, c.id), c.job_id, c.organisation_id, c.redrives, c.override, c.override_pathway,
        false, e.id
    FROM withdrawals.chunks c
    JOIN lms.learners l ON l.organisation_id = c.organisation_id AND l.external_id = c.learner_external_id
    JOIN lms.enrolments e ON e.learner_id = l.id AND e.organisation_id = c.organisation_id
        AND e.status NOT IN ('{WITHDRAWN}', {_list(ENDED)})
    LEFT JOIN withdrawals.chunks f ON f.dead_letter_id = c.redrives AND f.job_id = c.job_id AND f.redrives IS NULL
    WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
        AND e.id IN (SELECT unnest(CAST(:locked AS bigint[])))
), seen AS (
    SELECT a.*, e.status, e.pathway_id, {RULES} AS verdict
    FROM asked a LEFT JOIN lms.enrolments e
        ON e.id = a.enrolment_id AND e.organisation_id = a.organisation_id AND e.id = ANY(:locked)
), ranked AS (
    SELECT s.*, min(job_id) FILTER (WHERE verdict = 'withdrawn')
        OVER (PARTITION BY organisation_id, enrolment_id) AS withdrawn_by_job FROM seen s
), decided AS MATERIALIZED (
    SELECT r.chunk_id, r.home, r.job_id, r.organisation_id, r.enrolment_id, r.status, r.pathway_id, r.redrives,
        CASE WHEN r.withdrawn_by_job <> r.job_id AND verdict IN ('withdrawn', 'pathway_owned')
            THEN 'already_withdrawn' ELSE verdict END AS outcome,
        (SELECT o.outcome FROM withdrawals.outcomes o WHERE r.redrives IS NOT NULL
            AND o.job_id = r.job_id AND o.enrolment_id = r.enrolment_id) AS before
    FROM ranked r
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{WITHDRAWN}', withdrawn_at = now(), withdrawal_reason = j.reason,
        withdrawn_by = j.requested_by
    FROM decided d JOIN withdrawals.jobs j ON j.id = d.job_id
    WHERE e.id = d.enrolment_id AND d.outcome = 'withdrawn' AND e.status IN ({_list(ACTIVE)})
    RETURNING e.id
), letters AS (
    INSERT INTO withdrawals.dead_letters
        (organisation_id, code, enrolment_id, job_id, message, fingerprint, evidence)
    SELECT DISTINCT ON (d.organisation_id, d.enrolment_id) d.organisation_id, d.outcome, d.enrolment_id, d.job_id,
        CASE d.outcome
            WHEN 'pathway_owned' THEN 'A Learning Pathway owns this enrolment; it is not withdrawn directly.'
            WHEN 'unknown_status' THEN 'The status of this enrolment is on neither list; it is never guessed.'
            ELSE 'There is no such enrolment in this organisation.' END,
        d.outcome || coalesce(':' || coalesce(d.pathway_id::text,
            CASE WHEN d.outcome = 'unknown_status' THEN d.status END), ''),
        jsonb_strip_nulls(jsonb_build_object('status', d.status, 'pathway_id', d.pathway_id,
            'pathway_title', (SELECT p.title FROM lms.pathways p WHERE p.id = d.pathway_id)))
    FROM decided d WHERE d.outcome IN ({_list(NEEDS_SUPPORT)})
    ORDER BY d.organisation_id, d.enrolment_id, d.job_id
    ON CONFLICT (organisation_id, enrolment_id, learner_external_id, code)
        WHERE state IN ('open', 'redriven') AND code <> 'invalid_event'
        DO UPDATE SET evidence = excluded.evidence, message = excluded.message, fingerprint = excluded.fingerprint
    RETURNING id, organisation_id, enrolment_id, code
), lettered AS (
    SELECT d.*, l.id AS letter FROM decided d LEFT JOIN letters l ON l.organisation_id = d.organisation_id
        AND l.enrolment_id = d.enrolment_id AND l.code = d.outcome
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id, dead_letter_id)
    SELECT job_id, enrolment_id, organisation_id, home, outcome, status, pathway_id, letter
    FROM lettered WHERE before IS NULL
), replaced AS (
    UPDATE withdrawals.outcomes o SET outcome = d.outcome, prior_status = d.status, pathway_id = d.pathway_id,
        dead_letter_id = coalesce(d.letter, o.dead_letter_id), decided_at = now()
    FROM lettered d WHERE o.job_id = d.job_id AND o.enrolment_id = d.enrolment_id
        AND d.before IS NOT NULL AND d.before <> d.outcome
    RETURNING o.enrolment_id, o.job_id
), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, detail)
    SELECT d.organisation_id, c.asked_by, 'outcome.replaced', d.job_id, d.redrives,
        jsonb_build_object('enrolment_id', d.enrolment_id, 'before', d.before, 'after', d.outcome)
    FROM replaced r JOIN decided d USING (enrolment_id, job_id) JOIN withdrawals.chunks c ON c.id = d.chunk_id
), changes AS (
    SELECT chunk_id, outcome, 1 AS change FROM decided
    UNION ALL SELECT chunk_id, before, -1 FROM decided WHERE before IS NOT NULL
    UNION ALL SELECT DISTINCT c.id, 'failed', -1 FROM withdrawals.chunks c JOIN withdrawals.chunks f
        ON f.dead_letter_id = c.redrives AND f.job_id = c.job_id AND f.redrives IS NULL
        WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
), counts AS MATERIALIZED (
    SELECT chunk_id, jsonb_object_agg(outcome, change) FILTER (WHERE change <> 0) AS counts
    FROM (SELECT chunk_id, outcome, sum(change) AS change FROM changes GROUP BY 1, 2) c GROUP BY 1
), found AS MATERIALIZED (
    SELECT home, count(*) AS ids FROM decided GROUP BY 1
), healed AS (
    UPDATE withdrawals.chunks f SET state = 'done', dead_letter_id = NULL,
        size = coalesce((SELECT ids FROM found WHERE home = f.id), 0)
    FROM withdrawals.chunks c WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
        AND f.dead_letter_id = c.redrives AND f.job_id = c.job_id AND f.redrives IS NULL
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
        counts = coalesce((SELECT counts FROM counts WHERE chunk_id = c.id), '{{}}'),
        size = CASE WHEN c.learner_external_id IS NULL THEN size
            ELSE coalesce((SELECT ids FROM found WHERE home = c.id), 0) END
    WHERE c.id = ANY(:chunks) AND c.state = 'claimed'
    RETURNING c.id, c.job_id, c.counts
)
SELECT id AS chunk_id, job_id, counts, (SELECT count(*) FROM withdrawn) AS changed,
    (SELECT count(*) FROM decided WHERE outcome = 'withdrawn') AS withdrawn FROM closed
""")


def decide(
    connection: Connection, chunk_ids: Sequence[int], *, superseded: Sequence[int], locked: Sequence[int]
) -> list[Decided]:
    """Decide locked chunks over locked enrolments; write enrolments, letters, outcomes, audit and chunks.

    `superseded`: the letter chunks among them whose deactivation a newer event has replaced.
    """
    rows = connection.execute(
        _DECIDE, {"chunks": list(chunk_ids), "superseded": list(superseded), "locked": list(locked)}
    ).all()
    if rows and rows[0].changed != rows[0].withdrawn:
        raise RuntimeError("an enrolment that was locked as active was not updated")
    return [Decided(row.chunk_id, row.job_id, row.counts) for row in rows]
