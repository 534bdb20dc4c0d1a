-- A cascade of a deactivation is superseded with it: its job names the person and their epoch at that time.
ALTER TABLE withdrawals.jobs ADD COLUMN deactivated_external_id text,
    -- The next line puts a wider one in its place.
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT only_hr_is_superseded,
    ADD CONSTRAINT only_a_deactivation_is_superseded CHECK (
        (epoch IS NOT NULL) = (source = 'hr' OR deactivated_external_id IS NOT NULL)
        AND (state <> 'superseded' OR epoch IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT only_a_cascade_follows_a_deactivation CHECK (deactivated_external_id IS NULL OR (
        source = 'support' AND reason = 'user_deactivated' AND learner_external_id IS NULL)) NOT VALID;

-- Two budgets of a chunk that fails. Errors of the surroundings are bounded by time: attempts, and the pauses that were
-- planned between them; what a job was paused, or waited for a worker, does not count. All others are bounded by number.
ALTER TABLE withdrawals.chunks ADD COLUMN tried_for interval NOT NULL DEFAULT '0',
    ADD COLUMN own_failures integer NOT NULL DEFAULT 0;  -- of the attempts that failed: not by the surroundings

-- Through which door somebody asked for a run; null: by the relay, or before this was recorded.
ALTER TABLE withdrawals.runs ADD COLUMN door text CHECK (door IN ('api', 'cli', 'console'));

-- A key is of a request or of an event, never of both. Only the job that an event itself made shares the event's key.
-- Jobs and receipts have a unique index each, and none reaches over both tables: so whoever takes a key locks it first.
-- The one who comes second is told to begin again (40001), and then finds the key taken.
CREATE FUNCTION withdrawals.one_meaning_a_key() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$ DECLARE taken boolean; BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(
        new.organisation_id || ' ' || new.door || ' ' || new.idempotency_key, 0));
    IF tg_table_name = 'jobs' THEN
        taken := EXISTS (SELECT FROM withdrawals.receipts r WHERE r.organisation_id = new.organisation_id
            AND r.door = new.door AND r.idempotency_key = new.idempotency_key);
    ELSE
        taken := EXISTS (SELECT FROM withdrawals.jobs j WHERE j.organisation_id = new.organisation_id
            AND j.door = new.door AND j.idempotency_key = new.idempotency_key AND j.id IS DISTINCT FROM new.job_id);
    END IF;
    IF taken THEN
        RAISE serialization_failure USING MESSAGE = 'this key has been used meanwhile',
            SCHEMA = 'withdrawals', TABLE = tg_table_name, CONSTRAINT = 'one_meaning_a_key';
    END IF;
    RETURN NULL;
END $$;
-- Not of an event's own job, whose receipt follows in the same transaction, nor of a cascade's, whose key nobody chooses.
CREATE TRIGGER one_meaning_a_key AFTER INSERT ON withdrawals.jobs FOR EACH ROW WHEN (new.source NOT IN ('hr', 'support'))
    EXECUTE FUNCTION withdrawals.one_meaning_a_key();
CREATE TRIGGER one_meaning_a_key AFTER INSERT ON withdrawals.receipts FOR EACH ROW
    EXECUTE FUNCTION withdrawals.one_meaning_a_key();
