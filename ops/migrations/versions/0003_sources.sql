-- HR sources, and the receipts of their events.

-- Why a job waits for a second person: the brake, or its source's policy.
ALTER TABLE withdrawals.jobs ADD COLUMN held_because text CHECK (held_because IN ('brake', 'policy')),
    ADD CONSTRAINT held_says_why CHECK (state <> 'held' OR held_because IS NOT NULL);
