-- Reports that are made again and again, and the files that they became, kept for a set time (ops/decisions/0054).
CREATE TABLE withdrawals.report_schedules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    report text NOT NULL CHECK (report IN ('enrolments', 'outcomes')),
    filter jsonb NOT NULL,           -- conditions without a period, and without personal data
    covers text NOT NULL CHECK (covers IN ('all', 'period')),  -- everything, or the day, week or month before
    names boolean NOT NULL,          -- with the learners' names and e-mail addresses
    format text NOT NULL CHECK (format IN ('csv', 'xlsx', 'parquet')),
    every text NOT NULL CHECK (every IN ('daily', 'weekly', 'monthly')),
    hour integer NOT NULL CHECK (hour BETWEEN 0 AND 23),  -- in the organisation's time zone
    next_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL CHECK (created_by <> ''),
    creator_made_by text,            -- who made the creator's token; null: no token
    paused_at timestamptz,
    ended_at timestamptz,
    ended_by text,
    ended_because text,              -- why it ended by itself; null: a person ended it
    CONSTRAINT ended_by_somebody CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE INDEX report_schedules_due ON withdrawals.report_schedules (next_at)
    WHERE ended_at IS NULL AND paused_at IS NULL;
CREATE INDEX report_schedules_of_organisation ON withdrawals.report_schedules (organisation_id, id DESC);
CREATE INDEX report_schedules_ended ON withdrawals.report_schedules (ended_at) WHERE ended_because IS NOT NULL;

-- A run that was due becomes one row, whoever notices it and however late.
CREATE TABLE withdrawals.report_files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id bigint NOT NULL REFERENCES withdrawals.report_schedules,
    organisation_id bigint NOT NULL,
    due_at timestamptz NOT NULL,
    first_day date,                  -- the days that it covers; null: everything
    last_day date,
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'making', 'ready', 'failed')),
    token uuid,                      -- of the last attempt
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    run_after timestamptz NOT NULL DEFAULT '-infinity',
    last_error text,
    row_count bigint,
    size bigint,                     -- bytes
    ended_at timestamptz,
    UNIQUE (schedule_id, due_at),
    CONSTRAINT making_has_a_lease CHECK (state <> 'making' OR (token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT ended_has_a_time CHECK ((state IN ('ready', 'failed')) = (ended_at IS NOT NULL)),
    CONSTRAINT ready_has_a_size CHECK (state <> 'ready' OR (row_count IS NOT NULL AND size IS NOT NULL)),
    CONSTRAINT covers_days CHECK ((first_day IS NULL) = (last_day IS NULL))
);
CREATE INDEX report_files_due ON withdrawals.report_files (run_after, id) WHERE state IN ('due', 'making');
CREATE INDEX report_files_of_organisation ON withdrawals.report_files (organisation_id, id DESC);
CREATE INDEX report_files_ended ON withdrawals.report_files (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE withdrawals.report_parts (
    file_id bigint NOT NULL REFERENCES withdrawals.report_files ON DELETE CASCADE,
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (file_id, number)
);
ALTER TABLE withdrawals.report_parts ALTER COLUMN content SET STORAGE EXTERNAL;

-- The role with which somebody has signed in last: what they have scheduled ends with it.
ALTER TABLE withdrawals.members ADD COLUMN role text;
