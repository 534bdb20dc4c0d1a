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

-- A claim reads due chunks in order, so what cannot be claimed must not stand in front of them in the indexes, which
-- follow in 0015b.

-- A chunk that waits for its next attempt stands apart, and comes back when its time has come.
ALTER TABLE withdrawals.chunks ADD COLUMN deferred boolean NOT NULL DEFAULT false;

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
