-- Events that only say that a person's record changed: it is looked up in the HR system before they are applied.
-- HR systems of further kinds may send, and their APIs are asked with a key.
ALTER TABLE withdrawals.sources
    ADD COLUMN api_key text,   -- sealed; null: a kind whose events say everything
    ADD COLUMN api_url text,   -- null: the HR system's usual address
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT sources_kind_check,
    ADD CONSTRAINT sources_kind_check CHECK (kind IN ('standard', 'okta', 'bamboohr', 'hibob', 'personio', 'finch',
        'security-events')) NOT VALID;

ALTER TABLE withdrawals.receipts
    ADD COLUMN lookup boolean NOT NULL DEFAULT false,  -- while it waits: it has to be looked up first
    ADD COLUMN looked_up_at timestamptz,               -- when the look-up began that is in hand, or was the last
    -- Rows of before are not looked at, which would lock a large table for long.
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT waiting_is_an_event,
    ADD CONSTRAINT waiting_is_an_event CHECK (NOT waiting OR (door LIKE 'hr:_%' AND status = 'accepted'
        AND (lookup AND type = 'user.changed'
            OR NOT lookup AND type IN ('user.deactivated', 'user.reactivated', 'user.deactivation_cancelled'))
        AND external_id IS NOT NULL AND run_after IS NOT NULL AND applied_at IS NULL AND job_id IS NULL
        AND dead_letter_id IS NULL)) NOT VALID,
    ADD CONSTRAINT only_what_waits_is_looked_up CHECK (waiting OR NOT lookup) NOT VALID;
