-- A filter of a list that somebody keeps under a name. `filter` is what the list's form had, validated; never an address.
CREATE TABLE withdrawals.saved_views (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    list_name text NOT NULL CHECK (list_name IN ('jobs', 'dead_letters', 'enrolments', 'learners')),
    name text NOT NULL CHECK (name <> ''),
    filter jsonb NOT NULL CHECK (jsonb_typeof(filter) = 'object'),
    shared boolean NOT NULL DEFAULT false,  -- everybody of the organisation sees it; else its owner alone
    owner text NOT NULL,                    -- as the audit named them when it was saved
    owner_key text NOT NULL,                -- by what they are known again: a member's name may change
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX saved_views_of_owner ON withdrawals.saved_views (organisation_id, owner_key, list_name, lower(name));
CREATE INDEX saved_views_shared ON withdrawals.saved_views (organisation_id, list_name) WHERE shared;
