-- Full rosters: what an HR system says at one time about everybody. A roster is planned, and forgotten after a day; or
-- it is accepted, applied in sets, and done; or that failed too often, and somebody has to look at it.
CREATE TABLE withdrawals.rosters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'accepted', 'done', 'expired', 'failed')),
    as_of timestamptz NOT NULL,  -- the time that it speaks about: a newer event wins
    kind text NOT NULL CHECK (kind IN ('file', 'scim')),
    file_name text,
    sha256 text NOT NULL,        -- of the people and their states, in the order of the lines
    people integer NOT NULL CHECK (people > 0),
    active integer NOT NULL CHECK (active >= 0),
    missing text NOT NULL CHECK (missing IN ('withdraw', 'report')),  -- what follows for people who are not in it
    findings jsonb NOT NULL DEFAULT '{}',  -- how many people of each finding, when it was compared last
    shrink_reason text CHECK (shrink_reason <> ''),  -- why it may be much smaller than the one before
    planned_by text NOT NULL CHECK (planned_by <> ''),
    planned_at timestamptz NOT NULL DEFAULT now(),
    accepted_by text,
    accepted_at timestamptz,
    done_at timestamptz,
    job_id bigint REFERENCES withdrawals.jobs,  -- null: there was nothing to withdraw
    attempts integer NOT NULL DEFAULT 0,  -- to apply it, that failed in a row
    run_after timestamptz NOT NULL DEFAULT now(),  -- when it is applied, or tried again
    failure text,  -- of the last of these attempts: class and description of the error, without personal data
    failed_at timestamptz,
    CONSTRAINT accepted_by_somebody CHECK (
        num_nonnulls(accepted_by, accepted_at) = CASE WHEN state IN ('accepted', 'done', 'failed') THEN 2 ELSE 0 END),
    CONSTRAINT done_has_a_time CHECK ((done_at IS NOT NULL) = (state = 'done')),
    CONSTRAINT done_has_a_job CHECK (job_id IS NULL OR state = 'done'),
    CONSTRAINT failure_has_a_time CHECK ((failure IS NULL) = (failed_at IS NULL)),
    CONSTRAINT failed_says_why CHECK (state <> 'failed' OR failure IS NOT NULL)
);
CREATE INDEX rosters_of_organisation ON withdrawals.rosters (organisation_id, id DESC);
CREATE INDEX rosters_of_job ON withdrawals.rosters (job_id) WHERE job_id IS NOT NULL;
-- For when rosters were last heard, and what is told of those that were accepted.
CREATE INDEX rosters_accepted ON withdrawals.rosters (organisation_id, accepted_at) WHERE accepted_at IS NOT NULL;
CREATE INDEX rosters_planned ON withdrawals.rosters (planned_at) WHERE state = 'planned';
-- One after the other: each is compared with what the one before has left.
CREATE UNIQUE INDEX rosters_one_at_a_time ON withdrawals.rosters (organisation_id) WHERE state = 'accepted';

-- A person of a roster, or one whom the platform has and the roster does not (without a line). Lines that change nothing
-- go when the roster is applied; the others stay as the receipts of what it did.
CREATE TABLE withdrawals.roster_lines (
    roster_id bigint NOT NULL REFERENCES withdrawals.rosters ON DELETE CASCADE,
    organisation_id bigint NOT NULL,
    external_id text NOT NULL,
    line integer,
    active boolean NOT NULL,
    finding text,   -- what the comparison found; null: nothing to do
    result text,    -- what was decided under the person's lock; null: not yet
    epoch bigint,   -- of the person then, where they are to be withdrawn; another one now: superseded
    PRIMARY KEY (roster_id, external_id),
    CONSTRAINT withdrawn_at_an_epoch CHECK ((epoch IS NOT NULL) = (result IS NOT DISTINCT FROM 'withdraw'))
);
CREATE INDEX roster_lines_of_person ON withdrawals.roster_lines (organisation_id, external_id) WHERE epoch IS NOT NULL;

-- The one job of a roster is about many people, each with an epoch of their own: on the roster's lines.
ALTER TABLE withdrawals.jobs
    -- Wider than before, so that every row keeps them already.
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT hr_names_a_person,
    ADD CONSTRAINT hr_names_a_person CHECK (
        source <> 'hr' OR learner_external_id IS NOT NULL OR door = 'hr:roster') NOT VALID,
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT only_a_deactivation_is_superseded,
    ADD CONSTRAINT only_a_deactivation_is_superseded CHECK ((epoch IS NOT NULL)
            = ((source = 'hr' AND learner_external_id IS NOT NULL) OR deactivated_external_id IS NOT NULL)
        AND (state <> 'superseded' OR epoch IS NOT NULL)) NOT VALID;

-- Lines go with a record, as receipts do. Wider than before, so that every row keeps it already.
ALTER TABLE withdrawals.prunes
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT prunes_kind_check,
    ADD CONSTRAINT prunes_kind_check CHECK (kind IN ('jobs', 'receipts', 'audit', 'rosters')) NOT VALID;

-- After how long without a word somebody has to look at a source: an HR system, the SCIM directory, or the rosters.
CREATE TABLE withdrawals.silence_limits (
    organisation_id bigint NOT NULL,
    source text NOT NULL CHECK (source <> ''),
    hours integer NOT NULL CHECK (hours BETWEEN 1 AND 8784),
    set_by text NOT NULL CHECK (set_by <> ''),
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, source)
);
