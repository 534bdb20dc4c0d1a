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
    WHERE c.id = ANY(CAST(:ids AS bigint[])) AND c.token = CAST(:token AS uuid) AND c.state = 'claimed'
        AND c.redrives IS NULL AND c.learner_external_id IS NOT NULL

-- One row for each enrolment that has not ended, or one without an enrolment. The rules, on each row by itself.
), seen AS MATERIALIZED (
    SELECT a.*, e.id AS enrolment_id, e.status, bool_and(e.id IS NULL OR (e.status IN ({active})
            AND e.pathway_id IS NULL AND e.id IN (SELECT unnest({enrolments}))
            AND NOT ({any_protection} AND {is_protected}))) OVER (PARTITION BY a.chunk_id) AS is_decided,
        count(e.id) OVER (PARTITION BY a.chunk_id) AS size,
        row_number() OVER (PARTITION BY a.chunk_id) = 1 AS is_first
    FROM asked a LEFT JOIN LATERAL (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id
        FROM lms.enrolments e WHERE e.learner_id = a.learner_id AND e.organisation_id = a.organisation_id
            AND e.status NOT IN ('{withdrawn}', {ended}) OFFSET 0) e ON true
    WHERE a.is_alone AND a.is_plain
), decided AS MATERIALIZED (
    SELECT * FROM seen WHERE is_decided
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(), withdrawal_reason = d.reason,
        withdrawn_by = d.requested_by
    FROM decided d WHERE e.id = d.enrolment_id AND e.organisation_id = d.organisation_id AND e.status IN ({active})
    RETURNING e.id
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status)
    SELECT job_id, enrolment_id, organisation_id, chunk_id, '{withdrawn}', status
    FROM decided WHERE enrolment_id IS NOT NULL
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL, size = d.size,
        counts = CASE WHEN d.size > 0 THEN jsonb_build_object('{withdrawn}', d.size) ELSE '{}' END
    FROM decided d WHERE c.id = d.chunk_id AND d.is_first
    RETURNING c.id

-- A job that somebody else is changing, or of which the brake is to count another number, is ended afterwards.
), free AS MATERIALIZED (
    SELECT j.id FROM withdrawals.jobs j WHERE j.id = ANY(ARRAY(
            SELECT job_id FROM decided WHERE is_first AND learners = least(1, size))) AND j.state = 'queued'
        AND NOT {has_rows}
    ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED
), finished AS (
    UPDATE withdrawals.jobs SET state = 'completed', finished_at = now()
    WHERE id = ANY(ARRAY(SELECT id FROM free)) AND state = 'queued' RETURNING id
)
SELECT chunk_id, job_id, size, lane, clock_timestamp() - asked_at AS waited, request_id,
    job_id IN (SELECT id FROM finished) AS is_finished,
    -- the number of rows proves the locks
    CAST(CASE WHEN (SELECT count(*) FROM withdrawn) <> (SELECT count(enrolment_id) FROM decided)
        OR (SELECT count(*) FROM closed) <> (SELECT count(*) FROM decided WHERE is_first)
        THEN 'an enrolment or chunk that was locked was not updated' END AS integer) AS fault
FROM decided WHERE is_first
