-- Who changed which setting: the acts about no job, no dead letter and no person, of which even a large audit has few.
CREATE INDEX CONCURRENTLY audit_of_settings ON withdrawals.audit (organisation_id, split_part(action, '.', 1), at, id)
    WHERE job_id IS NULL AND dead_letter_id IS NULL AND NOT detail ? 'external_id';
