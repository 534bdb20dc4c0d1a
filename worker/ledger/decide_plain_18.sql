-- decide_plain.sql for PostgreSQL 18 and later, where an update returns also what a row was before: its status then is the
-- one that the lock showed, so each row is found, checked and decided once. It writes what decide_plain.sql would write.
-- Where there is something special in the chunk, no row is returned, and nothing is locked or written.

-- The chunk, locked if it is still the claim's own, and if all that it names is there and plain in this snapshot.
WITH plain AS MATERIALIZED (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.enrolment_ids, c.size, j.reason, j.requested_by, c.lane,
        j.request_id, {asked_at} AS asked_at
    FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE c.id = CAST(:chunk AS bigint) AND c.token = CAST(:token AS uuid) AND c.state = 'claimed'
        AND c.redrives IS NULL AND c.learner_external_id IS NULL AND NOT c.override
        AND j.state = 'queued' AND j.source <> 'hr' AND j.epoch IS NULL AND j.reinstates IS NULL
        AND c.size = (SELECT count(*) FROM lms.enrolments e
            WHERE e.id = ANY((SELECT c.enrolment_ids FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint))::bigint[])
                AND e.organisation_id = (SELECT c.organisation_id FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint))
                AND (e.status IN ('{withdrawn}', {ended}) OR (e.status IN ({active}) AND e.pathway_id IS NULL
                    AND NOT ({any_protection} AND {is_protected}))))
    FOR UPDATE OF c

-- Withdraw what is active, in id order. A row that somebody has changed is checked again once its lock is held, as it is
-- then: the update waits for the lock, reads the newest version, and leaves it out unless that one may be withdrawn.
), withdrawn AS MATERIALIZED (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(),
        withdrawal_reason = (SELECT reason FROM plain), withdrawn_by = (SELECT requested_by FROM plain)
    WHERE e.id = ANY((SELECT enrolment_ids FROM plain)::bigint[])
        AND e.organisation_id = (SELECT organisation_id FROM plain)
        AND e.status IN ({active}) AND e.pathway_id IS NULL
    RETURNING e.id, old.status
), changed AS MATERIALIZED (
    SELECT count(*) AS ids FROM withdrawn

-- What stays as it is, if there is any, locked and checked likewise. It comes after the others, out of their order, so it
-- waits for nobody. What was active in this snapshot is not among it.
), kept AS MATERIALIZED (
    SELECT e.id, e.status, e.pathway_id, {rules} AS outcome FROM lms.enrolments e
    WHERE (SELECT ids FROM changed) < (SELECT size FROM plain)
        AND e.id = ANY((SELECT enrolment_ids FROM plain)::bigint[])
        AND e.organisation_id = (SELECT organisation_id FROM plain) AND e.status IN ('{withdrawn}', {ended})
    FOR UPDATE SKIP LOCKED
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id)
    SELECT (SELECT job_id FROM plain), d.id, (SELECT organisation_id FROM plain), (SELECT chunk_id FROM plain),
        d.outcome, d.status, d.pathway_id
    FROM (SELECT id, '{withdrawn}' AS outcome, status, NULL::bigint AS pathway_id FROM withdrawn
        UNION ALL SELECT id, outcome, status, pathway_id FROM kept) d
-- Nothing at all is counted where somebody has changed every row: then the numbers differ, and all is rolled back.
), counts AS MATERIALIZED (
    SELECT coalesce(jsonb_object_agg(outcome, ids), '{}') AS counts FROM (
        SELECT '{withdrawn}' AS outcome, ids FROM changed WHERE ids > 0
        UNION ALL SELECT outcome, count(*) FROM kept GROUP BY 1) c
)
UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
    counts = (SELECT counts FROM counts)
FROM plain p WHERE c.id = p.chunk_id
RETURNING c.id AS chunk_id, c.job_id, c.counts, p.lane, p.request_id, clock_timestamp() - p.asked_at AS waited,
    {is_as_seen} AS is_as_seen
