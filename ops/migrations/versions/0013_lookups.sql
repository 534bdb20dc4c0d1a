-- A connection plans this once and keeps the plan until the table is analysed: planned over few chunks it read all of
-- them, and went on to while they grew to a hundred thousand. So it looks up each chunk by its key, whatever there is:
-- OFFSET 0 keeps the look-up apart, and nothing but the index is left to it.
CREATE OR REPLACE FUNCTION withdrawals.outcomes_have_chunks() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$ BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT chunk_id FROM written) w WHERE NOT EXISTS (
            SELECT FROM withdrawals.chunks c WHERE c.id = w.chunk_id OFFSET 0)) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an outcome names a chunk that does not exist',
            SCHEMA = 'withdrawals', TABLE = 'outcomes', CONSTRAINT = 'outcomes_have_chunks';
    END IF;
    RETURN NULL;
END $$;

-- The foreign key also refused this.
CREATE TRIGGER keep_id BEFORE UPDATE OF id ON withdrawals.chunks
    FOR EACH ROW WHEN (new.id <> old.id) EXECUTE FUNCTION withdrawals.never('a chunk keeps its id');
