-- What a bulk job writes for each enrolment. An entry in an index by organisation and time, and a queued check of a
-- foreign key that is almost always null, were a twelfth of deciding a thousand (decision record 0030).

-- Outcomes come in the order of time, so the time is summarised for each range of blocks, and costs a row nothing.
-- Reports find a small organisation's outcomes by its jobs instead.
CREATE INDEX outcomes_by_time ON withdrawals.outcomes USING brin (decided_at)
    WITH (pages_per_range = 32, autosummarize = on);
DROP INDEX withdrawals.outcomes_in_time;

-- A foreign key queues a check for every row, also where it is null. This looks only where there is a letter. It is as
-- strict: letters are never deleted and keep their ids.
ALTER TABLE withdrawals.outcomes DROP CONSTRAINT outcomes_dead_letter_id_fkey;
CREATE FUNCTION withdrawals.outcome_has_letter() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$ BEGIN
    IF NOT EXISTS (SELECT FROM withdrawals.dead_letters l WHERE l.id = new.dead_letter_id) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an outcome names a dead letter that does not exist',
            SCHEMA = 'withdrawals', TABLE = 'outcomes', CONSTRAINT = 'outcome_has_letter';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER has_letter AFTER INSERT OR UPDATE OF dead_letter_id ON withdrawals.outcomes FOR EACH ROW
    WHEN (new.dead_letter_id IS NOT NULL) EXECUTE FUNCTION withdrawals.outcome_has_letter();
CREATE TRIGGER keep BEFORE DELETE ON withdrawals.dead_letters
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('dead letters are never deleted');
CREATE TRIGGER keep_id BEFORE UPDATE OF id ON withdrawals.dead_letters
    FOR EACH ROW WHEN (new.id <> old.id) EXECUTE FUNCTION withdrawals.never('a dead letter keeps its id');
