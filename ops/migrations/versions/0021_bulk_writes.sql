-- What a bulk job writes for each enrolment. An entry in an index by organisation and time (0021b), and a queued check of a
-- foreign key that is almost always null, were a twelfth of deciding a thousand (decision record 0030).

-- A foreign key queues a check for every row, also where it is null. This looks only where there is a letter. It is as
-- strict: letters are never deleted and keep their ids.
-- squawk-ignore ban-drop-constraint
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

-- A transaction that notifies takes a lock over all notifying commits. A delivery is sent by the relay's next round, which
-- comes each second, or sooner after somebody else's notification.
CREATE OR REPLACE FUNCTION withdrawals.tell_of_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
    SELECT e.id, new.organisation_id, tg_argv[0], jsonb_build_object('job_id', new.id, 'kind', new.kind,
        'state', new.state, 'source', new.source, 'reason', new.reason, 'outcomes', (
            SELECT coalesce(jsonb_object_agg(outcome, ids), '{}') FROM (
                SELECT key AS outcome, sum(value::integer) AS ids
                FROM withdrawals.chunks c, jsonb_each_text(c.counts)
                WHERE c.job_id = new.id GROUP BY key HAVING sum(value::integer) <> 0) counts))
    FROM withdrawals.endpoints e
    WHERE e.organisation_id = new.organisation_id AND e.disabled_at IS NULL AND tg_argv[0] = ANY(e.events);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION withdrawals.tell_of_letters() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
    SELECT e.id, l.organisation_id, tg_argv[0], jsonb_build_object('code', l.code, 'count', count(*),
        'dead_letter_ids', jsonb_agg(l.id ORDER BY l.id))
    FROM told l JOIN withdrawals.endpoints e ON e.organisation_id = l.organisation_id AND e.disabled_at IS NULL
        AND tg_argv[0] = ANY(e.events)
    GROUP BY e.id, l.organisation_id, l.code;
    RETURN NULL;
END $$;
