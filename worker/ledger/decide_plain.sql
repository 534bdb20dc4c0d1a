-- Decides one locked chunk of a bulk job in which there is nothing special: every id is an enrolment that is locked, and
-- none needs support. Most chunks are like this. It writes what decide.sql would write, in about half the time: without
-- letters, attempts at letters, persons and other jobs there is nothing to join, rank or replace.
WITH given AS MATERIALIZED (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.enrolment_ids, j.reason, j.requested_by
    FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = :chunk

-- The rules, in the order of rule 9, on each row by itself.
), decided AS MATERIALIZED (
    SELECT e.id, e.status, e.pathway_id, {rules} AS outcome
    FROM lms.enrolments e WHERE e.id = ANY((SELECT enrolment_ids FROM given)::bigint[])
        AND e.organisation_id = (SELECT organisation_id FROM given)

-- Withdraw. The status is checked once more, so that the number of rows proves the locks.
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(), withdrawal_reason = g.reason,
        withdrawn_by = g.requested_by
    FROM given g
    WHERE e.id = ANY(ARRAY(SELECT id FROM decided WHERE outcome = 'withdrawn'))
        AND e.organisation_id = (SELECT organisation_id FROM given) AND e.status IN ({active})
    RETURNING e.id
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id)
    SELECT g.job_id, d.id, g.organisation_id, g.chunk_id, d.outcome, d.status, d.pathway_id FROM decided d CROSS JOIN given g
), counts AS MATERIALIZED (
    SELECT jsonb_object_agg(outcome, ids) AS counts FROM (SELECT outcome, count(*) AS ids FROM decided GROUP BY 1) c
)
UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
    counts = (SELECT counts FROM counts)
WHERE c.id = :chunk AND c.state = 'claimed'
RETURNING c.id AS chunk_id, c.job_id, c.counts, (SELECT count(*) FROM withdrawn) AS changed,
    (SELECT count(*) FROM decided WHERE outcome = 'withdrawn') AS withdrawn
