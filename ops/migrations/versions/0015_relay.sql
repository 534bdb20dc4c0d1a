-- The relay that leads: one row, its own heartbeat, and the steps of its rounds that fail. Standbys beat elsewhere.
CREATE TABLE withdrawals.leader (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    process_id uuid,                        -- null: none leads
    locked boolean NOT NULL DEFAULT false,  -- whether it holds the advisory lock, which ends with its session
    since timestamptz,
    seen_at timestamptz,
    failing jsonb NOT NULL DEFAULT '{}',    -- step to failures in a row, since when, error class, fingerprint
    CONSTRAINT leader_is_seen CHECK ((process_id IS NULL) = (since IS NULL) AND (process_id IS NULL) = (seen_at IS NULL))
);
INSERT INTO withdrawals.leader DEFAULT VALUES;

-- A claim reads due chunks in order, so what cannot be claimed must not stand in front of them in the index.

-- A chunk that waits for its next attempt stands apart, and comes back when its time has come.
ALTER TABLE withdrawals.chunks ADD COLUMN deferred boolean NOT NULL DEFAULT false;
DROP INDEX withdrawals.chunks_due, withdrawals.chunks_oldest;
CREATE INDEX chunks_due ON withdrawals.chunks (lane, number, id) WHERE state = 'ready' AND NOT deferred;
CREATE INDEX chunks_oldest ON withdrawals.chunks (id) WHERE state = 'ready' AND NOT deferred;
CREATE INDEX chunks_deferred ON withdrawals.chunks (run_after) WHERE state = 'ready' AND deferred;

-- The chunks of a paused job wait with it. A trigger, so that no code path can forget it. One that a claim has locked is
-- passed over, and given back by that claim; few are, so these may stand in front.
CREATE FUNCTION withdrawals.chunks_wait_with_job() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off AS $$ BEGIN
    IF new.state = 'paused' THEN
        UPDATE withdrawals.chunks SET state = 'waiting' WHERE id IN (SELECT c.id FROM withdrawals.chunks c
            WHERE c.job_id = new.id AND c.redrives IS NULL AND c.state = 'ready'
            ORDER BY c.id FOR UPDATE SKIP LOCKED);
    ELSE  -- waits for a lock: a chunk left waiting would be due never
        UPDATE withdrawals.chunks SET state = 'ready', run_after = greatest(run_after, now()) WHERE id IN (
            SELECT c.id FROM withdrawals.chunks c
            WHERE c.job_id = new.id AND c.redrives IS NULL AND c.state = 'waiting' ORDER BY c.id FOR UPDATE);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER pause_chunks AFTER UPDATE OF state ON withdrawals.jobs FOR EACH ROW
    WHEN ((old.state = 'queued' AND new.state = 'paused') OR (old.state = 'paused' AND new.state = 'queued'))
    EXECUTE FUNCTION withdrawals.chunks_wait_with_job();
UPDATE withdrawals.chunks c SET state = 'waiting' FROM withdrawals.jobs j
WHERE j.id = c.job_id AND j.state = 'paused' AND c.state = 'ready' AND c.redrives IS NULL;

-- Of the attempts at one letter the first is due.
CREATE INDEX chunks_live_of_letter ON withdrawals.chunks (redrives, id)
    WHERE redrives IS NOT NULL AND state IN ('ready', 'claimed');

-- A round of the relay looks at what has changed since the last one.
CREATE INDEX chunks_closed ON withdrawals.chunks (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX jobs_cancelled ON withdrawals.jobs (finished_at) WHERE state = 'cancelled';
DROP INDEX withdrawals.persons_due;
CREATE INDEX persons_due ON withdrawals.persons (effective_at, organisation_id, external_id) WHERE deactivation_due;

-- What is counted for `/metrics` is counted up to a limit, from these.
CREATE INDEX jobs_held ON withdrawals.jobs (held_because) WHERE state = 'held';

-- What is deleted after a time.
CREATE INDEX deliveries_failed ON withdrawals.deliveries (created_at) WHERE state = 'failed';
CREATE INDEX brake_volume_by_minute ON withdrawals.brake_volume (minute);
