
-- The end of decide_persons.sql and decide_named.sql, which is what both write of `decided`: a row for each enrolment, or one
-- for a chunk without. `ends_as`, of the first row of a chunk, is the state in which its job ends with it, if it does.
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(), withdrawal_reason = d.reason,
        withdrawn_by = d.requested_by
    FROM decided d WHERE d.outcome = '{withdrawn}' AND e.id = d.enrolment_id AND e.organisation_id = d.organisation_id
        AND e.status IN ({active})
    RETURNING e.id
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status, pathway_id)
    SELECT job_id, enrolment_id, organisation_id, chunk_id, outcome, status, pathway_id
    FROM decided WHERE enrolment_id IS NOT NULL
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL, size = d.size,
        counts = d.counts
    FROM decided d WHERE c.id = d.chunk_id AND d.is_first
    RETURNING c.id

-- A job that somebody else is changing is ended afterwards.
), free AS MATERIALIZED (
    SELECT j.id FROM withdrawals.jobs j
    WHERE j.id = ANY(ARRAY(SELECT job_id FROM decided WHERE is_first AND ends_as IS NOT NULL)) AND j.state = 'queued'
    ORDER BY j.id FOR NO KEY UPDATE SKIP LOCKED
), finished AS (
    UPDATE withdrawals.jobs SET finished_at = now(), state = CASE WHEN id IN (
            SELECT job_id FROM decided WHERE ends_as <> 'completed') THEN 'completed_with_exceptions' ELSE 'completed' END
    WHERE id = ANY(ARRAY(SELECT id FROM free)) AND state = 'queued' RETURNING id
)
SELECT chunk_id, job_id, counts, lane, clock_timestamp() - asked_at AS waited, request_id,
    CASE WHEN job_id IN (SELECT id FROM finished) THEN ends_as END AS ended_as,
    -- the number of rows proves the locks
    CAST(CASE WHEN (SELECT count(*) FROM withdrawn) <> (SELECT count(*) FROM decided WHERE outcome = '{withdrawn}')
        OR (SELECT count(*) FROM closed) <> (SELECT count(*) FROM decided WHERE is_first)
        THEN 'an enrolment or chunk that was locked was not updated' END AS integer) AS fault
FROM decided WHERE is_first
