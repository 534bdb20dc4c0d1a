-- One table of chunks is what workers claim; two views tell what a chunk is. A job's own chunk counts for its job. A letter
-- chunk is an attempt at a dead letter, stands outside its job's state, and says in `redrives` which letter it tries again.
-- Both can be written to, and need no rights beyond those on the table.
CREATE VIEW withdrawals.job_chunks WITH (security_invoker = true) AS
    SELECT id, job_id, organisation_id, number, lane, enrolment_ids, learner_external_id, size, state, run_after, token,
        claimed_at, lease_until, attempts, claims, alone, override, override_pathway, dead_letter_id, parent_id, counts,
        created_at, closed_at
    FROM withdrawals.chunks WHERE redrives IS NULL;
CREATE VIEW withdrawals.letter_chunks WITH (security_invoker = true) AS
    SELECT id, redrives AS letter_id, asked_by, remedy, job_id, organisation_id, number, lane, enrolment_ids,
        learner_external_id, size, state, run_after, token, claimed_at, lease_until, attempts, claims, alone, override,
        override_pathway, dead_letter_id, parent_id, counts, created_at, closed_at
    FROM withdrawals.chunks WHERE redrives IS NOT NULL;

-- What a letter says to people is made from its code and its evidence when it is read. Only an error has a text of its own.
ALTER TABLE withdrawals.dead_letters ALTER COLUMN message DROP NOT NULL,
    ADD CONSTRAINT an_error_has_a_message CHECK (
        message IS NOT NULL OR code IN ('pathway_owned', 'unknown_status', 'not_found', 'unknown_learner'));
