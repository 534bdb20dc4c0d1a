-- Decides and writes those chunks of a claim that deactivate one person each, where there is nothing special in them:
-- nothing newer is known of the person, and each of their enrolments that has not ended is active, free of pathways and
-- of protections. Most are like this. It writes what decide.sql would write, and ends their jobs, which have no other chunk.
-- Every row it looks at is locked by the statements before it, and its snapshot is newer than their locks.

-- The chunks that are still the claim's own, and of which the claim has no other for the same person.
WITH asked AS MATERIALIZED (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.lane, j.request_id, j.reason, j.requested_by, j.learners,
        {asked_at} AS asked_at, l.id AS learner_id,
        count(*) OVER (PARTITION BY c.organisation_id, c.learner_external_id) = 1 AS is_alone,
        NOT l.active AND l.id IN (SELECT unnest({learners})) AND j.state = 'queued' AND j.source = 'hr'
            AND j.kind = 'withdraw' AND NOT c.override
            AND EXISTS (SELECT FROM withdrawals.persons p WHERE p.organisation_id = c.organisation_id
                AND p.external_id = c.learner_external_id AND p.epoch = j.epoch OFFSET 0)
            AND NOT EXISTS (SELECT FROM withdrawals.receipts r WHERE r.waiting
                AND r.organisation_id = c.organisation_id AND r.external_id = c.learner_external_id OFFSET 0) AS is_plain
    FROM withdrawals.chunks c CROSS JOIN LATERAL (SELECT * FROM withdrawals.jobs j WHERE j.id = c.job_id OFFSET 0) j
    CROSS JOIN LATERAL (SELECT l.id, l.active FROM lms.learners l
        WHERE l.organisation_id = c.organisation_id AND l.external_id = c.learner_external_id OFFSET 0) l
    WHERE {own} AND c.redrives IS NULL AND c.learner_external_id IS NOT NULL

-- One row for each enrolment that has not ended, or one without an enrolment. The rules, on each row by itself.
), seen AS MATERIALIZED (
    SELECT a.*, e.id AS enrolment_id, e.status, e.pathway_id, CASE WHEN e.id IS NOT NULL THEN '{withdrawn}' END AS outcome,
        bool_and(e.id IS NULL OR (e.status IN ({active})
            AND e.pathway_id IS NULL AND e.id IN (SELECT unnest({enrolments}))
            AND NOT ({any_protection} AND {is_protected}))) OVER (PARTITION BY a.chunk_id) AS is_decided,
        count(e.id) OVER (PARTITION BY a.chunk_id) AS size,
        row_number() OVER (PARTITION BY a.chunk_id) = 1 AS is_first
    FROM asked a LEFT JOIN LATERAL (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id
        FROM lms.enrolments e WHERE e.learner_id = a.learner_id AND e.organisation_id = a.organisation_id
            AND e.status NOT IN ('{withdrawn}', {ended}) OFFSET 0) e ON true
    WHERE a.is_alone AND a.is_plain

-- A job ends with its one chunk, unless the brake has to count another number than it did.
), decided AS MATERIALIZED (
    SELECT s.*, CASE WHEN size > 0 THEN jsonb_build_object('{withdrawn}', size) ELSE '{}' END AS counts,
        CASE WHEN is_first AND learners = least(1, size) AND NOT {has_rows} THEN 'completed' END AS ends_as
    FROM seen s WHERE is_decided
