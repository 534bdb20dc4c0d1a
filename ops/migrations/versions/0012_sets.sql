-- An outcome belongs to a chunk. A foreign key looks that up for every row by itself, a quarter of what deciding a
-- thousand took; a statement's rows share a few chunks, so this looks once for each chunk. It is as strict: rows of
-- chunks are never deleted, and an outcome stays with its chunk.
ALTER TABLE withdrawals.outcomes DROP CONSTRAINT outcomes_chunk_id_fkey;

CREATE FUNCTION withdrawals.outcomes_have_chunks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    -- A scalar subquery: one look into the index for each chunk, whatever the planner expects of the rows written.
    IF EXISTS (SELECT FROM (SELECT DISTINCT chunk_id FROM written) w
            WHERE (SELECT c.id FROM withdrawals.chunks c WHERE c.id = w.chunk_id) IS NULL) THEN
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
