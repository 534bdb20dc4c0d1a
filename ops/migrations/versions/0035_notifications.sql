-- What people are told by mail or chat. Nothing here is written by the transactions that decide: the relay looks for
-- what there is to tell, and makes messages of it (ops/decisions/0047).

-- Where messages go: to an address, or to the e-mail address of a member.
CREATE TABLE withdrawals.notification_targets (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    member_id bigint REFERENCES withdrawals.members,  -- whose it is; null: the organisation's
    kinds text[] NOT NULL CHECK (cardinality(kinds) > 0),
    address text,                    -- sealed: an e-mail address, or a URL with its secrets; null: the member's e-mail
    shown text NOT NULL CHECK (shown <> ''),  -- the same without secrets
    digest_hour integer CHECK (digest_hour BETWEEN 0 AND 23),  -- in the organisation's time zone; null: at once
    next_at timestamptz NOT NULL DEFAULT '-infinity',  -- no message is made before
    told_up_to bigint NOT NULL DEFAULT 0,  -- the last notice that its messages cover
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL CHECK (created_by <> ''),
    removed_at timestamptz,
    removed_by text,
    CONSTRAINT somewhere CHECK (address IS NOT NULL OR member_id IS NOT NULL),
    CONSTRAINT removed_by_somebody CHECK ((removed_at IS NULL) = (removed_by IS NULL))
);
CREATE INDEX notification_targets_live ON withdrawals.notification_targets (organisation_id) WHERE removed_at IS NULL;
CREATE INDEX notification_targets_of_member ON withdrawals.notification_targets (member_id) WHERE member_id IS NOT NULL;

-- What there is to tell, each subject once. One relay at a time inserts, so ids rise in the order of the commits: a message
-- covers those from one id to another.
CREATE TABLE withdrawals.notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    at timestamptz NOT NULL,         -- when it happened
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail jsonb NOT NULL DEFAULT '{}',  -- codes and counts, no personal data
    UNIQUE (organisation_id, kind, subject)
);
CREATE INDEX notices_of_kind ON withdrawals.notices (organisation_id, kind, id);
CREATE INDEX notices_old ON withdrawals.notices (found_at);

-- Up to when everything of a kind has been found.
CREATE TABLE withdrawals.notice_scans (
    kind text PRIMARY KEY,
    since timestamptz NOT NULL
);

CREATE TABLE withdrawals.notification_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id bigint NOT NULL REFERENCES withdrawals.notification_targets,
    organisation_id bigint NOT NULL,
    after_notice bigint,             -- it covers the notices after this one,
    up_to_notice bigint,             -- up to this one; both null: a test
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'sending', 'delivered', 'failed')),
    token uuid,                      -- of the last attempt
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    run_after timestamptz NOT NULL DEFAULT '-infinity',
    give_up_at timestamptz NOT NULL,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CONSTRAINT sending_has_a_lease CHECK (state <> 'sending' OR (token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT ended_has_a_time CHECK ((state IN ('delivered', 'failed')) = (ended_at IS NOT NULL)),
    CONSTRAINT covers_a_range CHECK ((after_notice IS NULL) = (up_to_notice IS NULL))
);
CREATE INDEX notification_messages_due ON withdrawals.notification_messages (run_after, id)
    WHERE state IN ('due', 'sending');
CREATE INDEX notification_messages_of_target ON withdrawals.notification_messages (target_id, id DESC);
CREATE INDEX notification_messages_failed ON withdrawals.notification_messages (id) WHERE state = 'failed';
CREATE INDEX notification_messages_old ON withdrawals.notification_messages (ended_at) WHERE ended_at IS NOT NULL;
