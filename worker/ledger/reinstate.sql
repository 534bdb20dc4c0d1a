-- Decides locked chunks of reinstate jobs over locked learners and enrolments, and writes all of it: enrolments,
-- outcomes of both jobs, audit, chunks. Every step reads the snapshot that was taken after the last lock.

-- What is asked: one row for each chunk and enrolment, with the job to take back.
WITH asked AS (
    SELECT c.id AS chunk_id, c.job_id, c.organisation_id, c.redrives AS letter_id, j.reinstates,
        unnest(c.enrolment_ids) AS enrolment_id
    FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id WHERE c.id = ANY(:chunks)

-- The rules, on each row by itself: the job `w` to take back, its outcome `o`, the enrolment `e`, the learner `l`. OFFSET 0:
-- each is looked up by its key. Of a job that has just ended nothing is known, and a join would read all of it for each row.
), seen AS MATERIALIZED (
    SELECT a.*, e.status, e.learner_id, e.series_id, e.pathway_id, e.enrolled_at, o.prior_status,
        o.dead_letter_id AS withdrawn_by_letter,
        {rules} AS verdict
    FROM asked a
    CROSS JOIN LATERAL (SELECT * FROM withdrawals.jobs w WHERE w.id = a.reinstates OFFSET 0) w
    LEFT JOIN LATERAL (SELECT * FROM withdrawals.outcomes o WHERE o.job_id = a.reinstates
        AND o.enrolment_id = a.enrolment_id AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL OFFSET 0) o ON true
    LEFT JOIN LATERAL (SELECT * FROM lms.enrolments e WHERE e.id = a.enrolment_id
        AND e.organisation_id = a.organisation_id AND e.id = ANY(:locked) OFFSET 0) e ON true
    LEFT JOIN LATERAL (SELECT * FROM lms.learners l WHERE l.id = e.learner_id AND l.id = ANY(:learners) OFFSET 0) l ON true

-- Of several jobs that would reinstate the same enrolment here, the first one does.
), by_job AS (
    SELECT s.*, row_number() OVER (PARTITION BY verdict, enrolment_id ORDER BY job_id) AS nth_job FROM seen s

-- Of several enrolments with the same learner, Series and pathway, only one can be active: the newest.
), by_age AS (
    SELECT b.*, row_number() OVER (PARTITION BY verdict, nth_job, learner_id, series_id, pathway_id
        ORDER BY enrolled_at DESC, enrolment_id DESC) AS nth_newest
    FROM by_job b

-- The outcome of each. `before` is the outcome that an attempt at a letter replaces.
), decided AS MATERIALIZED (
    SELECT b.*,
        CASE WHEN verdict <> 'reinstated' THEN verdict WHEN nth_job > 1 THEN 'changed_since'
            WHEN nth_newest > 1 THEN 'enrolled_again' ELSE 'reinstated' END AS outcome,
        (SELECT x.outcome FROM withdrawals.outcomes x WHERE b.letter_id IS NOT NULL
            AND x.job_id = b.job_id AND x.enrolment_id = b.enrolment_id) AS before
    FROM by_age b

-- Put the prior status back. The status is checked once more, so that the number of rows proves the locks.
), reinstated AS (
    UPDATE lms.enrolments e SET status = d.prior_status, withdrawn_at = NULL, withdrawal_reason = NULL,
        withdrawn_by = NULL
    FROM decided d WHERE e.id = d.enrolment_id AND e.organisation_id = d.organisation_id
        AND d.outcome = 'reinstated' AND e.status = '{withdrawn}'
    RETURNING e.id

-- Write into the outcome of the other job which job took it back.
), taken_back AS (
    UPDATE withdrawals.outcomes o SET reinstated_by = d.job_id
    FROM decided d WHERE d.outcome = 'reinstated' AND o.job_id = d.reinstates AND o.enrolment_id = d.enrolment_id
        AND o.reinstated_by IS NULL
    RETURNING o.enrolment_id

-- Write the outcomes of this job …
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id)
    SELECT job_id, enrolment_id, organisation_id, chunk_id, outcome, status, pathway_id
    FROM decided WHERE before IS NULL

-- … or replace those that an attempt at a letter decides again, with the old value in the audit.
), replaced AS (
    UPDATE withdrawals.outcomes o SET outcome = d.outcome, prior_status = d.status, pathway_id = d.pathway_id,
        decided_at = now()
    FROM decided d WHERE o.job_id = d.job_id AND o.enrolment_id = d.enrolment_id AND d.before <> d.outcome
    RETURNING o.enrolment_id, o.job_id
), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, detail)
    SELECT d.organisation_id, c.asked_by, 'outcome.replaced', d.job_id, d.letter_id,
        jsonb_build_object('enrolment_id', d.enrolment_id, 'before', d.before, 'after', d.outcome)
    FROM replaced r JOIN decided d USING (enrolment_id, job_id) JOIN withdrawals.chunks c ON c.id = d.chunk_id

-- Count the outcomes of each chunk; an attempt at a letter counts what it changed.
), counts AS MATERIALIZED (
    SELECT chunk_id, jsonb_object_agg(outcome, change) FILTER (WHERE change <> 0) AS counts FROM (
        SELECT chunk_id, outcome, sum(change) AS change FROM (
            SELECT chunk_id, outcome, 1 AS change FROM decided
            UNION ALL SELECT chunk_id, before, -1 FROM decided WHERE before IS NOT NULL) changes
        GROUP BY 1, 2) c GROUP BY 1

-- Learners of whom the last withdrawal is taken back that the brake counts with the job. (What an attempt at a letter
-- withdrew was counted with the attempt.) Their locks keep any other undo from taking one back meanwhile, so each
-- learner is given back once, with one chunk. OFFSET 0: looked up by the learner, however large the job is.
), given_back AS MATERIALIZED (
    SELECT min(d.chunk_id) AS chunk_id FROM decided d
    WHERE d.outcome = 'reinstated' AND d.withdrawn_by_letter IS NULL
    GROUP BY d.reinstates, d.organisation_id, d.learner_id
    HAVING count(*) = (
        SELECT count(*) FROM (
            SELECT x.id FROM lms.enrolments x
            WHERE x.learner_id = d.learner_id AND x.organisation_id = d.organisation_id OFFSET 0) x
        CROSS JOIN LATERAL (
            SELECT FROM withdrawals.outcomes n WHERE n.job_id = d.reinstates AND n.enrolment_id = x.id
                AND n.outcome = 'withdrawn' AND n.reinstated_by IS NULL AND n.dead_letter_id IS NULL OFFSET 0) n)

-- Close the chunks.
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
        learners_back = (SELECT count(*) FROM given_back WHERE chunk_id = c.id),
        counts = coalesce((SELECT counts FROM counts WHERE chunk_id = c.id), '{}')
    WHERE c.id = ANY(:chunks) AND c.state = 'claimed'
    RETURNING c.id, c.job_id, c.counts
)
SELECT id AS chunk_id, job_id, counts, (SELECT count(*) FROM reinstated) AS changed,
    (SELECT count(*) FROM taken_back) AS taken_back,
    (SELECT count(*) FROM decided WHERE outcome = 'reinstated') AS reinstated FROM closed
