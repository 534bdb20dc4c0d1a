-- The inbox. An HR event is committed as a receipt that waits, with what it says; it is applied afterwards, in sets.
-- A receipt of an older version was applied when it was written.
ALTER TABLE withdrawals.receipts
    ADD COLUMN waiting boolean NOT NULL DEFAULT false,
    ADD COLUMN type text,                 -- null: not an event that was taken in here
    ADD COLUMN external_id text,          -- while it waits; afterwards the receipt names nobody
    ADD COLUMN sequence bigint,
    ADD COLUMN occurred_at timestamptz,   -- null: when it was received
    ADD COLUMN effective_at timestamptz,  -- null: when it was received; a date without a time is its end
    ADD COLUMN run_after timestamptz,     -- while it waits: the time of the next attempt
    ADD COLUMN together integer NOT NULL DEFAULT 1000,      -- applied with so many at the most
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,       -- that failed
    ADD COLUMN own_failures integer NOT NULL DEFAULT 0,   -- of these: alone, and not by the surroundings
    ADD COLUMN tried_for interval NOT NULL DEFAULT '0',   -- the pauses between them
    ADD COLUMN applied_at timestamptz,
    ADD CONSTRAINT receipts_together_check CHECK (together > 0) NOT VALID,
    -- Rows of before are not looked at, which would lock a large table for long.
    ADD CONSTRAINT waiting_is_an_event CHECK (NOT waiting OR (door LIKE 'hr:_%' AND status = 'accepted'
        AND type IN ('user.deactivated', 'user.reactivated', 'user.deactivation_cancelled')
        AND external_id IS NOT NULL AND run_after IS NOT NULL AND applied_at IS NULL AND job_id IS NULL
        AND dead_letter_id IS NULL)) NOT VALID,
    ADD CONSTRAINT applied_names_nobody CHECK (waiting OR external_id IS NULL) NOT VALID,
    SET (autovacuum_vacuum_scale_factor = 0.01);

-- A source's door takes events and nothing else, so an event in the inbox need not lock its key.
DROP TRIGGER one_meaning_a_key ON withdrawals.receipts;
CREATE TRIGGER one_meaning_a_key AFTER INSERT ON withdrawals.receipts FOR EACH ROW WHEN (NOT new.waiting)
    EXECUTE FUNCTION withdrawals.one_meaning_a_key();
