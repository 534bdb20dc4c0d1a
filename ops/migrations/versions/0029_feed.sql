-- The table of webhooks has a few rows, so it may be rewritten and looked at.
-- squawk-ignore-file ban-drop-constraint, constraint-missing-not-valid, adding-field-with-default
-- What other systems follow (decision record 0043). An entry stands for everything that one statement withdrew or
-- reinstated in one organisation, not for one enrolment: a million withdrawals write a thousand entries. Whoever reads an
-- entry finds its enrolments in the outcomes. Triggers write it in the deciding transaction, so no statement forgets it.
CREATE TABLE withdrawals.feed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- taken under the locks of the enrolments: the order of what happened
    organisation_id bigint NOT NULL,
    position bigint,          -- without gaps within the organisation; null: just written, and not visible to readers yet
    chunk_ids bigint[],       -- new outcomes: the chunks that they belong to
    job_id bigint,            -- an outcome that replaced another: its job …
    enrolment_id bigint,      -- … and its enrolment
    dead_letter_id bigint,    -- a letter that was closed by `keep`
    size integer NOT NULL,    -- number of events
    at timestamptz NOT NULL DEFAULT now(),  -- as `decided_at` of its outcomes: both are the time of the transaction
    CONSTRAINT one_kind CHECK (num_nonnulls(chunk_ids, enrolment_id, dead_letter_id) = 1
        AND (job_id IS NULL) = (enrolment_id IS NULL))
);
CREATE UNIQUE INDEX feed_positions ON withdrawals.feed (organisation_id, position);
CREATE INDEX feed_unnumbered ON withdrawals.feed (id) WHERE position IS NULL;

CREATE FUNCTION withdrawals.feed_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.feed (organisation_id, chunk_ids, size)
    SELECT organisation_id, array_agg(chunk_id), sum(events)
    FROM (SELECT organisation_id, chunk_id, count(*) AS events FROM written
        WHERE outcome IN ('withdrawn', 'reinstated') GROUP BY 1, 2) c
    GROUP BY organisation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER into_feed AFTER INSERT ON withdrawals.outcomes REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.feed_outcomes();

CREATE FUNCTION withdrawals.feed_replaced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.feed (organisation_id, job_id, enrolment_id, size)
    VALUES (new.organisation_id, new.job_id, new.enrolment_id, 1);
    RETURN NULL;
END $$;
CREATE TRIGGER replaced_into_feed AFTER UPDATE OF outcome ON withdrawals.outcomes FOR EACH ROW
    WHEN (new.outcome <> old.outcome AND new.outcome IN ('withdrawn', 'reinstated'))
    EXECUTE FUNCTION withdrawals.feed_replaced();

CREATE FUNCTION withdrawals.feed_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.feed (organisation_id, dead_letter_id, size) VALUES (new.organisation_id, new.id, 1);
    RETURN NULL;
END $$;
CREATE TRIGGER kept_into_feed AFTER UPDATE OF state ON withdrawals.dead_letters FOR EACH ROW
    WHEN (new.state = 'resolved' AND old.state <> 'resolved' AND new.remedy = 'keep' AND new.enrolment_id IS NOT NULL)
    EXECUTE FUNCTION withdrawals.feed_kept();

-- Webhooks that follow the feed: each has a place in it, and at most one batch on its way.
ALTER TABLE withdrawals.endpoints
    DROP CONSTRAINT endpoints_events_check,
    ADD CONSTRAINT endpoints_events_check CHECK (events <@ ARRAY['job.completed', 'job.held', 'dead_letter.opened',
        'dead_letter.overdue', 'enrolment.withdrawn', 'enrolment.reinstated', 'enrolment.kept']
        AND cardinality(events) > 0),
    ADD COLUMN follows boolean NOT NULL GENERATED ALWAYS AS
        (events && ARRAY['enrolment.withdrawn', 'enrolment.reinstated', 'enrolment.kept']) STORED,
    ADD COLUMN feed_cursor text,          -- after the last event that arrived
    ADD COLUMN feed_position bigint NOT NULL DEFAULT 0,  -- of that cursor; nothing is due while it is the newest entry's
    ADD COLUMN feed_token uuid,
    ADD COLUMN feed_lease_until timestamptz,
    ADD COLUMN failing_since timestamptz,  -- the first failure of a batch in a row
    ADD COLUMN paused_at timestamptz,      -- no more batches until somebody resumes it
    ADD COLUMN paused_because text,
    ADD CONSTRAINT paused_says_why CHECK ((paused_at IS NULL) = (paused_because IS NULL));

-- A chain of hashes over the audit of each organisation, a link for each finished day that has rows. An export can be
-- verified against it without this database: a hash is SHA-256 of the hash before and of the day's records.
CREATE TABLE withdrawals.audit_days (
    organisation_id bigint NOT NULL,
    day date NOT NULL,        -- UTC
    after date,               -- the day of the link before; null: the first
    row_count bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    sealed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, day),
    FOREIGN KEY (organisation_id, after) REFERENCES withdrawals.audit_days (organisation_id, day),
    CONSTRAINT time_goes_on CHECK (after < day)
);
CREATE UNIQUE INDEX audit_days_chain ON withdrawals.audit_days (organisation_id, after) NULLS NOT DISTINCT;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals.audit_days
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('the chain of the audit is never changed');
-- Of a row from which a person was erased: the SHA-256 of the record that it was, which its day's link has counted.
ALTER TABLE withdrawals.erased_rows ADD COLUMN record_hash bytea;
