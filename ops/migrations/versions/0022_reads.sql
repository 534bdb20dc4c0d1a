-- The list of running jobs looks at those of several ids, and at the chunks that are claimed: a job of one id waits, or
-- is being decided. A million single requests have no row here.
CREATE INDEX CONCURRENTLY jobs_of_several ON withdrawals.jobs (organisation_id, id DESC) WHERE state = 'queued' AND accepted > 1;
