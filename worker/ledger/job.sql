-- One job with its counts, as `Job` names them. Text, because every request that makes a job reads it back: as a composed
-- statement its plan was made while the tables were small, was kept, and read more rows with every job. A test holds
-- it against the composed statement of the lists.
SELECT j.id, j.organisation_id, j.kind, j.reason, j.source, j.requested_by, j.note, j.file_name,
    j.idempotency_key, j.learner_external_id, j.created_at, j.effective_at, j.finished_at, j.duplicates, j.reinstates,
    CASE WHEN j.state = 'held' THEN j.held_because END AS held_because,
    CASE WHEN j.state = 'held' THEN j.brake END AS brake,
    CASE WHEN j.state = 'queued' AND totals.begun THEN 'running' ELSE j.state END AS state,
    CASE WHEN j.learner_external_id IS NULL THEN j.accepted WHEN j.prune_id IS NULL THEN coalesce(totals.size, 0)
        ELSE (SELECT coalesce(sum(value::integer), 0) FROM jsonb_each_text(j.pruned_counts)) END AS accepted,
    coalesce(totals.unfinished, 0) AS in_flight,
    coalesce(j.pruned_counts, (SELECT coalesce(jsonb_object_agg(outcome, n), '{}') FROM (
        SELECT key AS outcome, sum(value::integer) AS n
        FROM withdrawals.chunks c, jsonb_each_text(c.counts) WHERE c.job_id = j.id
        GROUP BY key HAVING sum(value::integer) <> 0) counts)) AS outcomes,
    (SELECT coalesce(sum((c.counts ->> 'reinstated')::integer), 0) FROM withdrawals.jobs r
        JOIN withdrawals.chunks c ON c.job_id = r.id WHERE r.reinstates = j.id AND r.prune_id IS NULL)
    + (SELECT coalesce(sum((r.pruned_counts ->> 'reinstated')::integer), 0) FROM withdrawals.jobs r
        WHERE r.reinstates = j.id) AS reinstated,
    (SELECT count(*) FROM withdrawals.dead_letters d WHERE d.state IN ({live}) AND d.id IN (
        SELECT o.dead_letter_id FROM withdrawals.outcomes o
        WHERE o.job_id = j.id AND o.dead_letter_id IS NOT NULL
        UNION SELECT c.dead_letter_id FROM withdrawals.chunks c WHERE c.job_id = j.id)) AS open_dead_letters,
    j.prune_id IS NOT NULL AS pruned,
    (SELECT s.title FROM lms.series s WHERE s.organisation_id = j.organisation_id AND s.id = coalesce(j.series_id,
        (SELECT min(of_small.series_id) FROM (SELECT DISTINCT e.series_id FROM withdrawals.job_chunks c
            JOIN lms.enrolments e ON e.id = ANY(c.enrolment_ids)
            WHERE c.job_id = j.id AND e.organisation_id = j.organisation_id AND j.accepted <= {small}) of_small
        HAVING count(*) = 1))) AS series_title
FROM withdrawals.jobs j LEFT JOIN LATERAL (
    SELECT sum(c.size) FILTER (WHERE c.state <> 'split') AS size,
        sum(c.size) FILTER (WHERE c.state IN ({unfinished})) AS unfinished,
        bool_or(c.state NOT IN ('waiting', 'ready')) AS begun
    FROM withdrawals.job_chunks c WHERE c.job_id = j.id) totals ON true
WHERE j.id = :job_id AND j.organisation_id = :organisation_id
