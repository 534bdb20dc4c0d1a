-- Acts that need a second person, and what was decided about each. A row is decided once, and never deleted.
CREATE TABLE withdrawals.approvals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    act text NOT NULL CHECK (act IN ('release', 'override', 'cascade', 'lift', 'token', 'policies')),
    subject text NOT NULL CHECK (subject <> ''),  -- what it is about, in a line: one such row waits for each act and subject
    consequence text NOT NULL CHECK (consequence <> ''),  -- what approving will do, as a sentence
    arguments jsonb NOT NULL,                -- what the act needs; never shown
    size bigint NOT NULL CHECK (size >= 0),  -- learners; one protection, token or change of policies counts 1
    alone_up_to bigint NOT NULL CHECK (alone_up_to >= 0),  -- the size that needed nobody else, when it was asked for
    reason text,
    requested_by text NOT NULL,
    requester_made_by text,                  -- who created the requester's token: not a second person
    requested_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > requested_at),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'withdrawn')),
    decided_by text,
    decided_at timestamptz,
    decision_note text,
    CHECK ((state = 'pending') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    CHECK (state NOT IN ('approved', 'rejected') OR decided_by <> requested_by),
    CHECK (state <> 'rejected' OR decision_note <> '')
);
CREATE INDEX approvals_newest ON withdrawals.approvals (organisation_id, id);
CREATE INDEX approvals_pending ON withdrawals.approvals (organisation_id, requested_at) WHERE state = 'pending';
CREATE TRIGGER keep BEFORE DELETE ON withdrawals.approvals
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('approvals are never deleted');
CREATE TRIGGER keep_decision BEFORE UPDATE ON withdrawals.approvals
    FOR EACH ROW WHEN (old.state <> 'pending' AND new.state IS DISTINCT FROM old.state)
    EXECUTE FUNCTION withdrawals.never('an approval is decided once');

-- Who may do what without a second person: a list of rules, each with `act`, `source` and `alone_up_to`.
ALTER TABLE withdrawals.organisation_settings ADD COLUMN policies jsonb NOT NULL DEFAULT '[]';
