-- The desk counts letters up to a limit, from indexes that have exactly those that it counts.
-- By cause: where to go on from one cause to the next, and the oldest and the newest of each.
CREATE INDEX CONCURRENTLY dead_letters_of_cause ON withdrawals.dead_letters
    (organisation_id, code, fingerprint, opened_at, id) WHERE state IN ('open', 'redriven');
CREATE INDEX CONCURRENTLY dead_letters_closed_of_cause ON withdrawals.dead_letters
    (organisation_id, code, fingerprint, id) WHERE state IN ('resolved', 'discarded');
-- Those that nobody looks after, and who looks after the others.
CREATE INDEX CONCURRENTLY dead_letters_unassigned ON withdrawals.dead_letters (organisation_id, code, opened_at, id)
    WHERE state IN ('open', 'redriven') AND assignee IS NULL;
CREATE INDEX CONCURRENTLY dead_letters_of_assignee ON withdrawals.dead_letters
    (organisation_id, assignee, code, opened_at, id)
    WHERE state IN ('open', 'redriven') AND assignee IS NOT NULL;

-- The list of running jobs, found without those that wait, of which there may be very many.
CREATE INDEX CONCURRENTLY jobs_begun ON withdrawals.jobs (organisation_id, id DESC) WHERE state = 'queued' AND begun;
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.jobs_of_several;
