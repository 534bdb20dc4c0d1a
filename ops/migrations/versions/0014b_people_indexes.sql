ALTER TABLE withdrawals.jobs VALIDATE CONSTRAINT only_a_deactivation_is_superseded;
ALTER TABLE withdrawals.jobs VALIDATE CONSTRAINT only_a_cascade_follows_a_deactivation;
CREATE INDEX CONCURRENTLY jobs_of_cascades ON withdrawals.jobs (organisation_id, deactivated_external_id)
    WHERE deactivated_external_id IS NOT NULL;
-- The newest job of a person's deactivation, which a repetition of the same event is answered with.
CREATE INDEX CONCURRENTLY jobs_of_deactivations ON withdrawals.jobs (organisation_id, learner_external_id, id)
    WHERE source = 'hr';
-- Letters of unknown learners, a few of each organisation at a time.
CREATE INDEX CONCURRENTLY dead_letters_of_unknown_learners ON withdrawals.dead_letters (organisation_id, id)
    WHERE code = 'unknown_learner' AND state = 'open';
