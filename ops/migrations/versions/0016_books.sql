-- The ids that a chunk was given when it was made, as the exclusive or of a hash of each, so that they can be put together
-- from parts; the job's id is in each hash, so that chunks cannot be exchanged between jobs. Null: made before this column
-- was there, or an attempt at a dead letter, whose one id stands in the letter.
ALTER TABLE withdrawals.chunks ADD COLUMN digest bigint;

-- Rows of before are not looked at, which would lock a large table for long; `withdrawals check` does.
ALTER TABLE withdrawals.chunks ADD CONSTRAINT size_is_counted
    CHECK (enrolment_ids IS NULL OR cardinality(enrolment_ids) = size) NOT VALID;

-- How many rows a table had on the days after `after` up to `day`, once nothing could be written into them any more, and a
-- digest of those rows and of the seal before. `withdrawals check` finds a row that was removed since.
CREATE TABLE withdrawals.seals (
    table_name text NOT NULL CHECK (table_name IN ('audit', 'receipts')),
    day date NOT NULL,               -- UTC
    after date,                      -- the day of the seal before; null: the first, which covers nothing
    row_count bigint NOT NULL,
    digest bigint NOT NULL,
    last_id bigint NOT NULL,         -- a row of a day that began after `looked_at` has a higher id
    looked_at timestamptz NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, day),
    FOREIGN KEY (table_name, after) REFERENCES withdrawals.seals (table_name, day),
    CONSTRAINT time_goes_on CHECK (after < day)
);
CREATE UNIQUE INDEX seals_chain ON withdrawals.seals (table_name, after) NULLS NOT DISTINCT;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals.seals
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('seals are never changed');
-- Seals begin with tomorrow: what is there today may be too much to count here.
INSERT INTO withdrawals.seals (table_name, day, row_count, digest, last_id, looked_at)
SELECT 'audit', (now() AT TIME ZONE 'UTC')::date, 0, 0, coalesce(max(id), 0), now() FROM withdrawals.audit
UNION ALL
SELECT 'receipts', (now() AT TIME ZONE 'UTC')::date, 0, 0, coalesce(max(id), 0), now() FROM withdrawals.receipts;
