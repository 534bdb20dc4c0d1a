-- Decides locked chunks over locked enrolments, and writes all of it: enrolments, letters, outcomes, audit, chunks.
-- Every step reads the snapshot that was taken after the last lock.

-- What is asked: one row for each chunk and enrolment. `home` is the chunk that the outcome belongs to: a person chunk
-- that was closed whole as failed gets the outcomes that its letter's new attempt finds.
WITH asked AS (
    SELECT c.id AS chunk_id, c.id AS home, c.job_id, c.organisation_id, c.redrives, c.override, c.override_pathway,
        c.id = ANY(:superseded) OR (c.id, i.id) IN (
            SELECT g.chunk, g.id FROM unnest(CAST(:back_in AS bigint[]), CAST(:back AS bigint[])) AS g (chunk, id)
        ) AS superseded, i.id AS enrolment_id
    FROM withdrawals.chunks c CROSS JOIN LATERAL unnest(c.enrolment_ids) AS i (id)
    WHERE c.id = ANY(:chunks) AND c.enrolment_ids IS NOT NULL
    UNION ALL
    SELECT c.id, coalesce(f.id, c.id), c.job_id, c.organisation_id, c.redrives, c.override, c.override_pathway,
        false, e.id
    FROM withdrawals.chunks c
    -- OFFSET 0: each is looked up by its key. Of what has just come nothing is known, and a join would read all of it.
    CROSS JOIN LATERAL (SELECT l.id FROM lms.learners l
        WHERE l.organisation_id = c.organisation_id AND l.external_id = c.learner_external_id OFFSET 0) l
    CROSS JOIN LATERAL (SELECT e.id FROM lms.enrolments e WHERE e.learner_id = l.id
        AND e.organisation_id = c.organisation_id AND e.status NOT IN ('{withdrawn}', {ended}) OFFSET 0) e
    LEFT JOIN LATERAL (SELECT f.id FROM withdrawals.job_chunks f
        WHERE f.dead_letter_id = c.redrives AND f.job_id = c.job_id OFFSET 0) f ON true
    WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
        AND e.id IN (SELECT unnest(CAST(:locked AS bigint[])))

-- Of their organisations those in which anything is protected.
), guarded AS MATERIALIZED (
    SELECT o.id FROM (SELECT DISTINCT c.organisation_id AS id FROM withdrawals.chunks c WHERE c.id = ANY(:chunks)) o
    WHERE {any_protection}

-- The rules, in the order of rule 9, on each row by itself.
), seen AS (
    SELECT a.*, e.status, e.pathway_id, {rules} AS verdict
    FROM (SELECT asked.*, organisation_id IN (SELECT id FROM guarded) AS guarded FROM asked) a LEFT JOIN lms.enrolments e
        ON e.id = a.enrolment_id AND e.organisation_id = a.organisation_id AND e.id = ANY(:locked)

-- Several jobs may ask for the same enrolment: the one accepted first withdraws it …
), ranked AS (
    SELECT s.*, min(job_id) FILTER (WHERE verdict = 'withdrawn')
        OVER (PARTITION BY organisation_id, enrolment_id) AS withdrawn_by_job FROM seen s

-- … and the others find it withdrawn. `before` is the outcome that an attempt at a letter replaces.
), decided AS MATERIALIZED (
    SELECT r.chunk_id, r.home, r.job_id, r.organisation_id, r.enrolment_id, r.status, r.pathway_id, r.redrives,
        CASE WHEN r.withdrawn_by_job <> r.job_id AND verdict IN ('withdrawn', 'pathway_owned')
            THEN 'already_withdrawn' ELSE verdict END AS outcome,
        (SELECT o.outcome FROM withdrawals.outcomes o WHERE r.redrives IS NOT NULL
            AND o.job_id = r.job_id AND o.enrolment_id = r.enrolment_id) AS before
    FROM ranked r

-- Withdraw. The status is checked once more, so that the number of rows proves the locks.
), withdrawn AS (
    UPDATE lms.enrolments e SET status = '{withdrawn}', withdrawn_at = now(), withdrawal_reason = j.reason,
        withdrawn_by = j.requested_by
    FROM decided d JOIN withdrawals.jobs j ON j.id = d.job_id
    WHERE e.id = d.enrolment_id AND e.organisation_id = d.organisation_id AND d.outcome = 'withdrawn'
        AND e.status IN ({active})
    RETURNING e.id

-- What protects each protected enrolment: of several protections the one that ends last.
), protected AS MATERIALIZED (
    SELECT DISTINCT ON (d.organisation_id, d.enrolment_id) d.organisation_id, d.enrolment_id, p.id, p.kind, p.until
    FROM decided d CROSS JOIN LATERAL (
        SELECT p.* FROM withdrawals.protections p WHERE p.organisation_id = d.organisation_id
            AND p.enrolment_id = d.enrolment_id AND p.ends_at > now()
        UNION ALL
        SELECT p.* FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id
        JOIN withdrawals.protections p ON p.organisation_id = l.organisation_id
            AND p.learner_external_id = l.external_id AND p.ends_at > now()
        WHERE e.id = d.enrolment_id AND e.organisation_id = d.organisation_id) p
    WHERE d.outcome = 'protected'
    ORDER BY d.organisation_id, d.enrolment_id, p.ends_at DESC, p.id

-- Open a letter for what needs support, or attach to the live one. Its sentence is made from code and evidence when read.
-- An organisation may want no letters of what is protected.
), letters AS (
    INSERT INTO withdrawals.dead_letters (organisation_id, code, enrolment_id, job_id, fingerprint, evidence)
    SELECT DISTINCT ON (d.organisation_id, d.enrolment_id) d.organisation_id, d.outcome, d.enrolment_id, d.job_id,
        d.outcome || coalesce(':' || coalesce(p.id::text, d.pathway_id::text,
            CASE WHEN d.outcome = 'unknown_status' THEN d.status END), ''),
        jsonb_strip_nulls(jsonb_build_object('status', d.status, 'pathway_id', d.pathway_id,
            'pathway_title', (SELECT w.title FROM lms.pathways w WHERE w.id = d.pathway_id),
            'protection_id', p.id, 'protection_kind', p.kind, 'protected_until', p.until))
    FROM decided d LEFT JOIN protected p ON p.organisation_id = d.organisation_id AND p.enrolment_id = d.enrolment_id
        AND d.outcome = 'protected'
    WHERE d.outcome IN ({needs_support}) AND (d.outcome <> 'protected' OR coalesce((SELECT s.protected_letters
        FROM withdrawals.organisation_settings s WHERE s.organisation_id = d.organisation_id), true))
    ORDER BY d.organisation_id, d.enrolment_id, d.job_id
    ON CONFLICT (organisation_id, enrolment_id, learner_external_id, code)
        WHERE state IN ('open', 'redriven') AND code <> 'invalid_event'
        DO UPDATE SET evidence = excluded.evidence, message = NULL, fingerprint = excluded.fingerprint
    RETURNING id, organisation_id, enrolment_id, code
), lettered AS (
    SELECT d.*, l.id AS letter FROM decided d LEFT JOIN letters l ON l.organisation_id = d.organisation_id
        AND l.enrolment_id = d.enrolment_id AND l.code = d.outcome

-- Outcomes: new ones, and those that an attempt at a letter replaces, the old value in the audit.
), written AS (
    INSERT INTO withdrawals.outcomes (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status,
        pathway_id, dead_letter_id)
    SELECT job_id, enrolment_id, organisation_id, home, outcome, status, pathway_id, letter
    FROM lettered WHERE before IS NULL
), replaced AS (
    UPDATE withdrawals.outcomes o SET outcome = d.outcome, prior_status = d.status, pathway_id = d.pathway_id,
        dead_letter_id = coalesce(d.letter, CASE WHEN d.outcome <> 'protected' THEN o.dead_letter_id END),
        decided_at = now()
    FROM lettered d WHERE o.job_id = d.job_id AND o.enrolment_id = d.enrolment_id
        AND d.before IS NOT NULL AND d.before <> d.outcome
    RETURNING o.enrolment_id, o.job_id
), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, detail)
    SELECT d.organisation_id, c.asked_by, 'outcome.replaced', d.job_id, d.redrives,
        jsonb_build_object('enrolment_id', d.enrolment_id, 'before', d.before, 'after', d.outcome)
    FROM replaced r JOIN decided d USING (enrolment_id, job_id) JOIN withdrawals.chunks c ON c.id = d.chunk_id

-- Counts: of a job's chunk its outcomes, of a letter chunk what it changed. A person chunk closed whole counted `failed`.
), changes AS (
    SELECT chunk_id, outcome, 1 AS change FROM decided
    UNION ALL SELECT chunk_id, before, -1 FROM decided WHERE before IS NOT NULL
    UNION ALL SELECT DISTINCT c.id, 'failed', -1 FROM withdrawals.letter_chunks c JOIN withdrawals.job_chunks f
        ON f.dead_letter_id = c.letter_id AND f.job_id = c.job_id
        WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
-- In one value, by chunk: as rows they were all read again for each chunk that is closed.
), counts AS MATERIALIZED (
    SELECT jsonb_object_agg(chunk_id, counts) AS by_chunk FROM (
        SELECT chunk_id, jsonb_object_agg(outcome, change) FILTER (WHERE change <> 0) AS counts
        FROM (SELECT chunk_id, outcome, sum(change) AS change FROM changes GROUP BY 1, 2) c GROUP BY 1) c
), found AS MATERIALIZED (
    SELECT home, count(*) AS ids FROM decided GROUP BY 1

-- Close the chunks: a person chunk that had failed whole is done now, and so is every chunk of this claim.
), healed AS (
    UPDATE withdrawals.chunks f SET state = 'done', dead_letter_id = NULL,
        size = coalesce((SELECT ids FROM found WHERE home = f.id), 0)
    FROM withdrawals.letter_chunks c WHERE c.id = ANY(:chunks) AND c.learner_external_id IS NOT NULL
        AND f.dead_letter_id = c.letter_id AND f.job_id = c.job_id AND f.redrives IS NULL
), closed AS (
    UPDATE withdrawals.chunks c SET state = 'done', closed_at = now(), lease_until = NULL,
        counts = coalesce(nullif((SELECT by_chunk FROM counts) -> c.id::text, 'null'), '{}'),
        size = CASE WHEN c.learner_external_id IS NULL THEN size
            ELSE coalesce((SELECT ids FROM found WHERE home = c.id), 0) END
    WHERE c.id = ANY(:chunks) AND c.state = 'claimed'
    RETURNING c.id, c.job_id, c.counts
)
SELECT id AS chunk_id, job_id, counts, (SELECT count(*) FROM withdrawn) AS changed,
    (SELECT count(*) FROM decided WHERE outcome = 'withdrawn') AS withdrawn FROM closed
