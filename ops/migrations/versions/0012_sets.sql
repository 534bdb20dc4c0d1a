-- An outcome belongs to a chunk. A foreign key looks that up for every row by itself, a quarter of what deciding a
-- thousand took; a statement's rows share a few chunks, so this looks once for each chunk. It is as strict: chunks are
-- never deleted and keep their ids, and an outcome stays with its chunk.
ALTER TABLE withdrawals.outcomes DROP CONSTRAINT outcomes_chunk_id_fkey;

-- A connection plans this once and keeps the plan until the table is analysed: planned over few chunks it would read all
-- of them, and go on to while they grow to a hundred thousand. So it looks up each chunk by its key, whatever there is:
-- OFFSET 0 keeps the look-up apart, and nothing but the index is left to it.
CREATE FUNCTION withdrawals.outcomes_have_chunks() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$ BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT chunk_id FROM written) w WHERE NOT EXISTS (
            SELECT FROM withdrawals.chunks c WHERE c.id = w.chunk_id OFFSET 0)) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an outcome names a chunk that does not exist',
            SCHEMA = 'withdrawals', TABLE = 'outcomes', CONSTRAINT = 'outcomes_have_chunks';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER have_chunks AFTER INSERT ON withdrawals.outcomes REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.outcomes_have_chunks();

CREATE FUNCTION withdrawals.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE restrict_violation USING MESSAGE = tg_argv[0], SCHEMA = 'withdrawals', TABLE = tg_table_name;
END $$;
CREATE TRIGGER keep_chunk BEFORE UPDATE OF chunk_id ON withdrawals.outcomes
    FOR EACH ROW WHEN (new.chunk_id <> old.chunk_id)
    EXECUTE FUNCTION withdrawals.never('an outcome stays with its chunk');
CREATE TRIGGER keep BEFORE DELETE ON withdrawals.chunks
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('chunks are never deleted');
CREATE TRIGGER keep_id BEFORE UPDATE OF id ON withdrawals.chunks
    FOR EACH ROW WHEN (new.id <> old.id) EXECUTE FUNCTION withdrawals.never('a chunk keeps its id');
