-- What was pruned. The books take a record for the rows that it names, so a row that is missing without one is found as
-- before. Records are never changed, and each holds a digest of the one before.
CREATE TABLE withdrawals.prunes (
    id bigint PRIMARY KEY,           -- given by `link`, without gaps: the record before has the number before
    kind text NOT NULL CHECK (kind IN ('jobs', 'receipts', 'audit')),
    organisation_id bigint NOT NULL,
    day date,                        -- UTC, of the rows; null: of jobs
    row_count bigint NOT NULL CHECK (row_count >= 0),  -- jobs, or rows of the table
    counts jsonb NOT NULL DEFAULT '{}',                -- of jobs: their outcomes
    digest bigint NOT NULL,          -- the exclusive or of a hash of each row; of jobs: of each row of `outcomes`
    files jsonb NOT NULL DEFAULT '[]',  -- that the rows were exported to before: name and SHA-256
    pruned_by text NOT NULL CHECK (pruned_by <> ''),
    pruned_at timestamptz NOT NULL DEFAULT now(),
    chain bigint NOT NULL DEFAULT 0,    -- written by `link`
    CONSTRAINT days_of_rows CHECK ((kind = 'jobs') = (day IS NULL))
);
CREATE INDEX prunes_of_organisation ON withdrawals.prunes (organisation_id, kind, day);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals.prunes
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('records of prunes are never changed');

CREATE FUNCTION withdrawals.prune_chain(p withdrawals.prunes, before bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(CAST(ROW(p.id, p.kind, p.organisation_id, p.day - date '2000-01-01', p.row_count, p.counts, p.digest, p.files,
        p.pruned_by, extract(epoch FROM p.pruned_at)) AS text), before) $$;
-- One after the other, so that the chain has no fork. The lock is held until the record has committed.
CREATE FUNCTION withdrawals.link_prune() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE newest withdrawals.prunes; BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('withdrawals.prunes', 0));
    SELECT * INTO newest FROM withdrawals.prunes ORDER BY id DESC LIMIT 1;
    new.id := coalesce(newest.id, 0) + 1;
    new.chain := withdrawals.prune_chain(new, coalesce(newest.chain, 0));
    RETURN new;
END $$;
CREATE TRIGGER link BEFORE INSERT ON withdrawals.prunes FOR EACH ROW EXECUTE FUNCTION withdrawals.link_prune();

-- Whose withdrawals were pruned: it explains why an enrolment is withdrawn, for as long as the platform keeps it.
CREATE TABLE withdrawals.pruned_withdrawals (
    organisation_id bigint NOT NULL,
    day date NOT NULL,               -- UTC, of the withdrawal
    requested_by text NOT NULL,
    reason text NOT NULL,
    prune_id bigint NOT NULL REFERENCES withdrawals.prunes,
    withdrawals bigint NOT NULL CHECK (withdrawals > 0),
    PRIMARY KEY (organisation_id, day, requested_by, reason, prune_id)
);
CREATE INDEX pruned_withdrawals_of_prune ON withdrawals.pruned_withdrawals (prune_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals.pruned_withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('records of prunes are never changed');

-- A job stays when what it did is pruned: it answers its key, and says how many of each outcome it had. No foreign key:
-- one queues a check for every job that is made (decision record 0030); `withdrawals check` compares the two.
ALTER TABLE withdrawals.jobs ADD COLUMN prune_id bigint, ADD COLUMN pruned_counts jsonb,
    -- Rows of before are not looked at, which would lock a large table for long.
    ADD CONSTRAINT pruned_has_ended CHECK ((prune_id IS NULL) = (pruned_counts IS NULL)
        AND (prune_id IS NULL OR finished_at IS NOT NULL)) NOT VALID;

-- To prune a chunk would read all chunks for its halves. The chunks of a job go together, and the books compare halves.
-- squawk-ignore ban-drop-constraint
ALTER TABLE withdrawals.chunks DROP CONSTRAINT chunks_parent_id_fkey;

-- Chunks and outcomes can be deleted only of jobs that are on record as pruned, whoever tries.
CREATE FUNCTION withdrawals.only_pruned_jobs() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$ BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT job_id FROM removed) r WHERE NOT EXISTS (
            SELECT FROM withdrawals.jobs j WHERE j.id = r.job_id AND j.prune_id IS NOT NULL OFFSET 0)) THEN
        RAISE restrict_violation USING MESSAGE = tg_table_name || ' are deleted only when their job is pruned',
            SCHEMA = 'withdrawals', TABLE = tg_table_name;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER keep ON withdrawals.chunks;
CREATE TRIGGER keep AFTER DELETE ON withdrawals.chunks REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.only_pruned_jobs();
CREATE TRIGGER keep AFTER DELETE ON withdrawals.outcomes REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.only_pruned_jobs();
