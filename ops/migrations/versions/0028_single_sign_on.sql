-- The tables of this file that exist before it have a row for each open session, so nothing in it holds a lock for long.
-- squawk-ignore-file ban-drop-not-null, adding-field-with-default, adding-foreign-key-constraint
-- squawk-ignore-file constraint-missing-not-valid, require-concurrent-index-creation
-- People who have signed in with a provider. Issuer and subject say who somebody is; name and e-mail are for show, and follow
-- the provider. The id stands in records beside the name, so that two people of one name stay two.
CREATE TABLE withdrawals.members (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    issuer text NOT NULL CHECK (issuer <> ''),
    subject text NOT NULL CHECK (subject <> ''),
    name text NOT NULL CHECK (name <> ''),
    email text,
    created_at timestamptz NOT NULL DEFAULT now(),
    signed_in_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organisation_id, issuer, subject)
);
CREATE INDEX members_by_subject ON withdrawals.members (issuer, subject);

-- A session now stands for a token or for a member. A version before this one reads the sessions of tokens alone, and writes
-- them without the new columns.
ALTER TABLE withdrawals.sessions ALTER COLUMN token_id DROP NOT NULL;
ALTER TABLE withdrawals.sessions
    ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN member_id bigint REFERENCES withdrawals.members,
    ADD COLUMN role text CHECK (role IN ('viewer', 'operator', 'approver', 'owner')),  -- a member's, at sign-in
    ADD COLUMN provider_session text,                                                  -- the provider's `sid`
    ADD COLUMN browser text,
    ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(),                        -- to the minute
    ADD COLUMN idle_limit interval NOT NULL DEFAULT interval '1 hour',
    ADD CONSTRAINT sessions_one_holder CHECK ((token_id IS NULL) <> (member_id IS NULL) AND (member_id IS NULL) = (role IS NULL));
CREATE UNIQUE INDEX sessions_id ON withdrawals.sessions (id);
CREATE INDEX sessions_of_member ON withdrawals.sessions (member_id);

-- Logout tokens that were taken in, until they expire: none counts twice.
CREATE TABLE withdrawals.logout_tokens (
    issuer text NOT NULL,
    jti text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, jti)
);

-- Links that `withdrawals up` prints. Each signs in once.
CREATE TABLE withdrawals.sign_in_links (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),  -- SHA-256 of the code: 256 random bits
    token_id bigint NOT NULL REFERENCES withdrawals.tokens,
    expires_at timestamptz NOT NULL
);
