-- Who is signed in to the console. A session stands for the token it was opened with, and ends with it.
CREATE TABLE withdrawals.sessions (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),  -- SHA-256 of the cookie: 256 random bits
    token_id bigint NOT NULL REFERENCES withdrawals.tokens,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_expire ON withdrawals.sessions (expires_at);

-- The console is a door of its own: a decision receipt says through what a request came.
ALTER TABLE withdrawals.jobs DROP CONSTRAINT jobs_door_check;
ALTER TABLE withdrawals.jobs ADD CONSTRAINT jobs_door_check
    CHECK (door IN ('api', 'cli', 'scim', 'console') OR door LIKE 'hr:_%');

-- Of a job that came as a file: its name, and the line on which each enrolment stood first. Apart from the chunks,
-- because these are split; in the same order of ids, so that one line is found by one look into the index.
ALTER TABLE withdrawals.jobs ADD COLUMN file_name text CHECK (file_name <> '');
CREATE TABLE withdrawals.file_lines (
    job_id bigint NOT NULL REFERENCES withdrawals.jobs,
    first_id bigint NOT NULL,         -- the lowest of the ids
    enrolment_ids bigint[] NOT NULL,
    lines integer[] NOT NULL,         -- beside each id
    PRIMARY KEY (job_id, first_id),
    CONSTRAINT a_line_for_each CHECK (cardinality(enrolment_ids) = cardinality(lines))
);
