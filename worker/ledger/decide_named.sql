-- Decides and writes those chunks of a claim that name enrolments to withdraw, where there is nothing special in them: each
-- enrolment is there, no other chunk of the claim names it, and it is withdrawn or has ended already, or is active, free of
-- pathways and of protections. Most are like this. It writes what decide.sql would write, and ends jobs of one enrolment.
-- Every row it looks at is locked by the statement before it, and its snapshot is newer than their locks.

-- What the chunks that are still the claim's own ask for: one row for each enrolment.
WITH asked AS MATERIALIZED (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.lane, c.size, i.id AS enrolment_id, j.request_id, j.reason,
        j.requested_by, j.accepted, j.learners, {asked_at} AS asked_at,
        count(*) OVER (PARTITION BY c.organisation_id, i.id) = 1 AND c.redrives IS NULL AND NOT c.override
            AND j.state = 'queued' AND j.kind = 'withdraw' AND j.source <> 'hr' AND j.epoch IS NULL AS is_plain
    FROM withdrawals.chunks c CROSS JOIN LATERAL (SELECT * FROM withdrawals.jobs j WHERE j.id = c.job_id OFFSET 0) j
    CROSS JOIN LATERAL unnest(c.enrolment_ids) AS i (id)
    WHERE {own}

-- The rules, on each row by itself; a chunk is decided if each of its rows is plain.
), seen AS MATERIALIZED (
    SELECT a.*, e.status, e.pathway_id, {rules} AS outcome,
        bool_and(coalesce(a.is_plain AND e.id IN (SELECT unnest({enrolments})) AND (e.status IN ('{withdrawn}', {ended})
            OR (e.status IN ({active}) AND e.pathway_id IS NULL AND NOT ({any_protection} AND {is_protected}))), false))
            OVER of_chunk AS is_decided,
        count(*) FILTER (WHERE e.status IN ({active})) OVER of_chunk AS active,
        count(*) FILTER (WHERE e.status = '{withdrawn}') OVER of_chunk AS already,
        count(*) FILTER (WHERE e.status IN ({ended})) OVER of_chunk AS ended,
        row_number() OVER of_chunk = 1 AS is_first
    FROM asked a LEFT JOIN LATERAL (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id
        FROM lms.enrolments e WHERE e.id = a.enrolment_id AND e.organisation_id = a.organisation_id OFFSET 0) e ON true
    WINDOW of_chunk AS (PARTITION BY a.chunk_id)

-- A job of one enrolment ends with its one chunk, unless the brake has to count another number than it did.
), decided AS MATERIALIZED (
    SELECT s.*, jsonb_strip_nulls(jsonb_build_object('withdrawn', nullif(active, 0), 'already_withdrawn', nullif(already, 0),
            'enrolment_ended', nullif(ended, 0))) AS counts,
        CASE WHEN accepted = 1 AND learners = active THEN
            CASE WHEN outcome IN ({clean}) THEN 'completed' ELSE 'completed_with_exceptions' END END AS ends_as
    FROM seen s WHERE is_decided
