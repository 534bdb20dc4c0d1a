-- A claim reads due chunks in order, so what cannot be claimed must not stand in front of them in the index. A chunk that
-- waits for its next attempt stands apart. The older index is there until the newer one is. No statement names an index,
-- so renaming one breaks nobody.
CREATE INDEX CONCURRENTLY chunks_due_undeferred ON withdrawals.chunks (lane, number, id)
    WHERE state = 'ready' AND NOT deferred;
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.chunks_due;
-- squawk-ignore renaming-object
ALTER INDEX IF EXISTS withdrawals.chunks_due_undeferred RENAME TO chunks_due;
CREATE INDEX CONCURRENTLY chunks_oldest_undeferred ON withdrawals.chunks (id) WHERE state = 'ready' AND NOT deferred;
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.chunks_oldest;
-- squawk-ignore renaming-object
ALTER INDEX IF EXISTS withdrawals.chunks_oldest_undeferred RENAME TO chunks_oldest;
CREATE INDEX CONCURRENTLY chunks_deferred ON withdrawals.chunks (run_after) WHERE state = 'ready' AND deferred;

-- Of the attempts at one letter the first is due.
CREATE INDEX CONCURRENTLY chunks_live_of_letter ON withdrawals.chunks (redrives, id)
    WHERE redrives IS NOT NULL AND state IN ('ready', 'claimed');

-- A round of the relay looks at what has changed since the last one.
CREATE INDEX CONCURRENTLY chunks_closed ON withdrawals.chunks (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX CONCURRENTLY jobs_cancelled ON withdrawals.jobs (finished_at) WHERE state = 'cancelled';
CREATE INDEX CONCURRENTLY persons_due_in_order ON withdrawals.persons (effective_at, organisation_id, external_id)
    WHERE deactivation_due;
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.persons_due;
-- squawk-ignore renaming-object
ALTER INDEX IF EXISTS withdrawals.persons_due_in_order RENAME TO persons_due;

-- What is counted for `/metrics` is counted up to a limit, from these.
CREATE INDEX CONCURRENTLY jobs_held ON withdrawals.jobs (held_because) WHERE state = 'held';

-- What is deleted after a time.
CREATE INDEX CONCURRENTLY deliveries_failed ON withdrawals.deliveries (created_at) WHERE state = 'failed';
CREATE INDEX CONCURRENTLY brake_volume_by_minute ON withdrawals.brake_volume (minute);
