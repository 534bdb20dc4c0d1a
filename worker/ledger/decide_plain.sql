-- Locks, decides and writes the one chunk of a claim, where there is nothing special in it: it only names enrolments to
-- withdraw, all are there, and none is protected or needs support. Most chunks are like this. It writes what decide.sql would write.
-- For PostgreSQL before 18; decide_plain_18.sql is for those that return what a row was before its update.
-- Where there is something special, no row is returned, and nothing is locked or written.

-- What the enrolments are in this snapshot, without a lock. The rules, in the order of rule 9, on each row by itself.
WITH seen AS MATERIALIZED (
    SELECT e.id, {version} AS version, e.status, e.pathway_id, {rules} AS outcome FROM lms.enrolments e
    WHERE e.id = ANY((SELECT c.enrolment_ids FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint))::bigint[])
        AND e.organisation_id = (SELECT c.organisation_id FROM withdrawals.chunks c WHERE c.id = CAST(:chunk AS bigint))
        AND (e.status IN ('{withdrawn}', {ended}) OR (e.status IN ({active}) AND e.pathway_id IS NULL
            AND NOT ({any_protection} AND {is_protected})))
    ORDER BY e.id

-- The chunk, locked if it is still the claim's own.
), plain AS MATERIALIZED (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, j.reason, j.requested_by, c.lane,
        j.request_id, {asked_at} AS asked_at
    FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE c.id = CAST(:chunk AS bigint) AND c.token = CAST(:token AS uuid) AND c.state = 'claimed' AND c.size = (SELECT count(*) FROM seen)
        AND c.redrives IS NULL AND c.learner_external_id IS NULL AND NOT c.override
        AND j.state = 'queued' AND j.source <> 'hr' AND j.epoch IS NULL AND j.reinstates IS NULL
    FOR UPDATE OF c

-- Withdraw, in id order. A row that somebody changed since it was seen is checked again as it is now: the update waits
-- for its lock, reads the newest version, and leaves it out unless all that the rules look at is as it was seen. Minor
-- versions of PostgreSQL differ in whether they check `ctid` again, so every condition is repeated.
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(), withdrawal_reason = p.reason,
        withdrawn_by = p.requested_by
    FROM plain p CROSS JOIN seen s
    WHERE s.outcome = 'withdrawn' AND {is_version} e.id = s.id AND e.organisation_id = p.organisation_id
        AND e.status = s.status AND e.pathway_id IS NULL
    RETURNING e.id
), changed AS MATERIALIZED (
    SELECT count(*) AS ids FROM withdrawn

-- What stays as it is, locked and checked likewise. It comes after the others, out of their order, so it waits for nobody.
), kept AS MATERIALIZED (
    SELECT l.id FROM (SELECT s.* FROM plain CROSS JOIN seen s WHERE s.outcome <> 'withdrawn'
        AND (SELECT ids FROM changed) >= 0) s
    CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e
        WHERE e.id = s.id AND e.organisation_id = (SELECT organisation_id FROM plain) AND e.status = s.status
            AND e.pathway_id IS NOT DISTINCT FROM s.pathway_id FOR UPDATE SKIP LOCKED) l
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id)
    SELECT p.job_id, s.id, p.organisation_id, p.chunk_id, s.outcome, s.status, s.pathway_id
    FROM plain p CROSS JOIN seen s
), counts AS MATERIALIZED (
    SELECT jsonb_object_agg(outcome, ids) AS counts FROM (SELECT outcome, count(*) AS ids FROM seen GROUP BY 1) c
)
UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
    counts = (SELECT counts FROM counts)
FROM plain p WHERE c.id = p.chunk_id
RETURNING c.id AS chunk_id, c.job_id, c.counts, p.lane, p.request_id, clock_timestamp() - p.asked_at AS waited,
    {is_as_seen} AS is_as_seen
