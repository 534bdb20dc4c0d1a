CREATE INDEX CONCURRENTLY jobs_correct_due ON withdrawals.jobs (id) WHERE correct_due;
