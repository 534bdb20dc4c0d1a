-- HR sources, and the receipts of their events.

-- Why a job waits for a second person: the brake, or its source's policy.
ALTER TABLE withdrawals.jobs ADD COLUMN held_because text CHECK (held_because IN ('brake', 'policy')),
    ADD CONSTRAINT held_says_why CHECK (state <> 'held' OR held_because IS NOT NULL);

CREATE TABLE withdrawals.sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),  -- stands in the URL, and is no number
    kind text NOT NULL CHECK (kind IN ('standard', 'okta', 'bamboohr')),
    on_deactivate text NOT NULL DEFAULT 'withdraw' CHECK (on_deactivate IN ('withdraw', 'hold', 'ignore')),
    grace_hours integer NOT NULL DEFAULT 0 CHECK (grace_hours BETWEEN 0 AND 8760),
    secret text NOT NULL,    -- sealed
    previous_secret text,    -- sealed; good until …
    previous_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    disabled_at timestamptz,
    CONSTRAINT previous_ends CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
);
CREATE UNIQUE INDEX sources_one_live_name ON withdrawals.sources (organisation_id, name) WHERE disabled_at IS NULL;
CREATE INDEX sources_of_name ON withdrawals.sources (name) WHERE disabled_at IS NULL;

-- A receipt has a number of its own, and may be of an event that made no job: one that could not be read (its
-- letter says why), or one that its source's policy lets pass (`noted`).
ALTER TABLE withdrawals.receipts ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN dead_letter_id bigint REFERENCES withdrawals.dead_letters,
    DROP CONSTRAINT receipts_status_check,
    ADD CONSTRAINT receipts_status_check CHECK (
        status IN ('accepted', 'scheduled', 'held', 'noted', 'reactivated', 'ignored', 'invalid')),
    ADD CONSTRAINT invalid_has_letter CHECK ((status = 'invalid') = (dead_letter_id IS NOT NULL));
