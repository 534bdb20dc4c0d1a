-- The brake, and what plans and scheduled jobs need.

-- An organisation's own limits (null: the settings' defaults), and what admission last counted.
ALTER TABLE withdrawals.organisation_settings
    ADD COLUMN brake_floor bigint CHECK (brake_floor >= 0),                   -- learners
    ADD COLUMN brake_share double precision CHECK (brake_share BETWEEN 0 AND 1),
    ADD COLUMN brake_hours integer CHECK (brake_hours BETWEEN 1 AND 720),
    ADD COLUMN population bigint,            -- learners active, and those deactivated in the window
    ADD COLUMN counted_at timestamptz;       -- null: count again before the next decision past the floor

ALTER TABLE withdrawals.jobs
    ADD COLUMN learners bigint CHECK (learners >= 0),  -- that it counts in the brake's window; null: none
    ADD COLUMN brake jsonb,                            -- the figures that held it
    ADD COLUMN released_at timestamptz,                -- by a second person: not held again
    ADD COLUMN released_by text,
    ADD CONSTRAINT released_by_another CHECK (
        (released_at IS NULL) = (released_by IS NULL) AND released_by IS DISTINCT FROM requested_by);
CREATE INDEX jobs_admitted ON withdrawals.jobs (organisation_id, admitted_at) WHERE admitted_at IS NOT NULL;

-- The brake's window, by the minute, so that a storm of small jobs reads a few rows and not all jobs of the day.
-- `jobs` is counted anew from the jobs themselves, so it cannot drift; `redrives` stands nowhere else.
CREATE TABLE withdrawals.brake_volume (
    organisation_id bigint NOT NULL,
    minute timestamptz NOT NULL,
    jobs bigint NOT NULL DEFAULT 0,
    redrives bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organisation_id, minute)
) WITH (fillfactor = 50);
