-- Who may call over HTTP. A token is `wdt_SELECTOR_SECRET`: found by its selector, then its hash is compared.
CREATE TABLE withdrawals.tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    role text NOT NULL CHECK (role IN ('scim', 'producer', 'viewer', 'operator', 'approver')),
    selector text NOT NULL UNIQUE,
    hash bytea NOT NULL CHECK (length(hash) = 32),  -- SHA-256: 256 random bits need neither salt nor stretching
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    last_used_at timestamptz,  -- to the minute
    revoked_at timestamptz
);
CREATE UNIQUE INDEX tokens_one_live_name ON withdrawals.tokens (organisation_id, lower(name)) WHERE revoked_at IS NULL;
