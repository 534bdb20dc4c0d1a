-- Owners. The role stays `approver` in `role`, which an older version beside this one knows. Until now an approver could do
-- all that an owner can, so that those who exist become owners.
ALTER TABLE withdrawals.tokens ADD COLUMN owner boolean NOT NULL DEFAULT false CHECK (NOT owner OR role = 'approver');
UPDATE withdrawals.tokens SET owner = true WHERE role = 'approver';

-- The learners of a job are corrected when it ends by those whom it withdrew. One that is cancelled while a chunk is being
-- decided ends before that is known.
ALTER TABLE withdrawals.jobs ADD COLUMN correct_due boolean NOT NULL DEFAULT false;

-- Until now a minute was put right only before something was held; now it says at any time what its jobs say.
UPDATE withdrawals.brake_volume v SET jobs = counted.jobs
FROM (SELECT m.organisation_id, m.minute, coalesce(sum(j.learners), 0) AS jobs FROM withdrawals.brake_volume m
    LEFT JOIN withdrawals.jobs j ON j.organisation_id = m.organisation_id AND j.state <> 'superseded'
        AND j.admitted_at >= m.minute AND j.admitted_at < m.minute + interval '1 minute'
    GROUP BY 1, 2) counted
WHERE counted.organisation_id = v.organisation_id AND counted.minute = v.minute AND counted.jobs <> v.jobs;

-- Limits that an owner proposes, and what a second person decided. Null: the service's default.
CREATE TABLE withdrawals.limit_proposals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    brake_floor bigint CHECK (brake_floor >= 0),
    brake_share double precision CHECK (brake_share BETWEEN 0 AND 1),
    brake_hours integer CHECK (brake_hours BETWEEN 1 AND 720),
    note text,
    proposed_by text NOT NULL,
    proposer_made_by text,                   -- who created the proposer's token: not a second person
    proposed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > proposed_at),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'withdrawn')),
    decided_by text,
    decided_at timestamptz,
    decision_note text,
    CHECK ((state = 'pending') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    CHECK (state NOT IN ('approved', 'rejected') OR decided_by <> proposed_by),
    CHECK (state <> 'withdrawn' OR decided_by = proposed_by),
    CHECK (state <> 'rejected' OR decision_note <> '')
);
CREATE INDEX limit_proposals_newest ON withdrawals.limit_proposals (organisation_id, id);
