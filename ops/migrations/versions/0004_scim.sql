-- What SCIM remembers of a user beside the learner's row, which is the platform's.
CREATE TABLE withdrawals.scim_users (
    learner_id bigint PRIMARY KEY,
    organisation_id bigint NOT NULL,
    last_call uuid NOT NULL,   -- that changed it: a repetition after a lost answer knows itself
    created_at timestamptz,    -- through SCIM; null: the platform had the learner before
    changed_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz     -- absent for SCIM; the learner's row stays
);
CREATE INDEX scim_users_deleted ON withdrawals.scim_users (organisation_id) WHERE deleted_at IS NOT NULL;
