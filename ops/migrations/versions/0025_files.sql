-- Files that were sent, kept for a day: the plan and the confirmation of a large one send it once, whichever web process
-- answers. Parts, because no more than one of them is in memory at a time; compressed by nobody, because a workbook is.
CREATE TABLE withdrawals.uploads (
    id uuid PRIMARY KEY,
    organisation_id bigint NOT NULL,
    requested_by text NOT NULL,
    file_name text,
    faults text,  -- the name of the file that has the rows with faults
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX uploads_of_requester ON withdrawals.uploads (organisation_id, requested_by, created_at);
CREATE INDEX uploads_by_age ON withdrawals.uploads (created_at);

CREATE TABLE withdrawals.upload_parts (
    upload_id uuid NOT NULL REFERENCES withdrawals.uploads ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('file', 'faults')),
    number integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (upload_id, kind, number)
);
ALTER TABLE withdrawals.upload_parts ALTER COLUMN content SET STORAGE EXTERNAL;

-- Later files of a batch: what a job of it has taken is not taken again.
CREATE TABLE withdrawals.batch_jobs (
    job_id bigint PRIMARY KEY REFERENCES withdrawals.jobs,
    first_job_id bigint NOT NULL REFERENCES withdrawals.jobs,
    organisation_id bigint NOT NULL,
    CHECK (job_id > first_job_id)
);
CREATE INDEX batch_jobs_of_batch ON withdrawals.batch_jobs (first_job_id);
