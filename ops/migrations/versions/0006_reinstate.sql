-- Reinstating what a job withdrew: a job that names the one it takes back.
ALTER TABLE withdrawals.jobs ADD COLUMN reinstates bigint REFERENCES withdrawals.jobs,
    ADD CONSTRAINT reinstates_a_job CHECK ((kind = 'reinstate') = (reinstates IS NOT NULL));
CREATE INDEX jobs_that_reinstate ON withdrawals.jobs (reinstates) WHERE reinstates IS NOT NULL;

-- The outcome `withdrawn` stays as what happened; the job that took it back stands beside it.
ALTER TABLE withdrawals.outcomes ADD COLUMN reinstated_by bigint,
    DROP CONSTRAINT outcomes_outcome_check,
    ADD CONSTRAINT outcomes_outcome_check CHECK (outcome IN ('withdrawn', 'already_withdrawn', 'enrolment_ended',
        'superseded', 'unknown_status', 'pathway_owned', 'not_found', 'failed', 'cancelled', 'reinstated',
        'enrolled_again', 'changed_since', 'learner_inactive')),
    ADD CONSTRAINT only_a_withdrawal_is_taken_back CHECK (reinstated_by IS NULL OR outcome = 'withdrawn');
