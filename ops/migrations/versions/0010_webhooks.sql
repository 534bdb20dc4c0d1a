-- Webhooks that go out. Deliveries are written by triggers, in the very transaction that finishes or holds a job
-- or opens a letter: no code path can forget one, and none is told of what was rolled back.

CREATE TABLE withdrawals.endpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL CHECK (events <@ ARRAY['job.completed', 'job.held', 'dead_letter.opened',
        'dead_letter.overdue'] AND cardinality(events) > 0),
    secret text NOT NULL,            -- sealed
    failures integer NOT NULL DEFAULT 0,  -- in a row
    rest_until timestamptz NOT NULL DEFAULT '-infinity',  -- nothing is sent before
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    disabled_at timestamptz,
    disabled_because text,
    CONSTRAINT disabled_says_why CHECK ((disabled_at IS NULL) = (disabled_because IS NULL))
);
CREATE INDEX endpoints_of_organisation ON withdrawals.endpoints (organisation_id) WHERE disabled_at IS NULL;

CREATE TABLE withdrawals.deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id bigint NOT NULL REFERENCES withdrawals.endpoints,
    organisation_id bigint NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'sending', 'delivered', 'failed')),
    token uuid,                      -- of the last attempt
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    last_status integer,             -- of HTTP
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    CONSTRAINT sending_has_a_lease CHECK (state <> 'sending' OR (token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT delivered_has_a_time CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
);
CREATE INDEX deliveries_due ON withdrawals.deliveries (endpoint_id, attempts, id) WHERE state IN ('due', 'sending');
CREATE INDEX deliveries_of_endpoint ON withdrawals.deliveries (endpoint_id, id DESC);
CREATE INDEX deliveries_old ON withdrawals.deliveries (delivered_at) WHERE state = 'delivered';

ALTER TABLE withdrawals.dead_letters ADD COLUMN overdue_told_at timestamptz;  -- once a letter

CREATE FUNCTION withdrawals.tell_of_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
    SELECT e.id, new.organisation_id, tg_argv[0], jsonb_build_object('job_id', new.id, 'kind', new.kind,
        'state', new.state, 'source', new.source, 'reason', new.reason, 'outcomes', (
            SELECT coalesce(jsonb_object_agg(outcome, ids), '{}') FROM (
                SELECT key AS outcome, sum(value::integer) AS ids
                FROM withdrawals.chunks c, jsonb_each_text(c.counts)
                WHERE c.job_id = new.id GROUP BY key HAVING sum(value::integer) <> 0) counts))
    FROM withdrawals.endpoints e
    WHERE e.organisation_id = new.organisation_id AND e.disabled_at IS NULL AND tg_argv[0] = ANY(e.events);
    IF FOUND THEN PERFORM pg_notify('withdrawals_due', ''); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_completed AFTER UPDATE OF state ON withdrawals.jobs FOR EACH ROW
    WHEN (new.state <> old.state AND new.state IN ('completed', 'completed_with_exceptions'))
    EXECUTE FUNCTION withdrawals.tell_of_job('job.completed');
CREATE TRIGGER tell_held AFTER UPDATE OF state ON withdrawals.jobs FOR EACH ROW
    WHEN (new.state <> old.state AND new.state = 'held') EXECUTE FUNCTION withdrawals.tell_of_job('job.held');
CREATE TRIGGER tell_held_at_once AFTER INSERT ON withdrawals.jobs FOR EACH ROW
    WHEN (new.state = 'held') EXECUTE FUNCTION withdrawals.tell_of_job('job.held');

-- One delivery for all letters of a statement and a code: a claim opens up to a thousand at once.
CREATE FUNCTION withdrawals.tell_of_letters() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
    SELECT e.id, l.organisation_id, tg_argv[0], jsonb_build_object('code', l.code, 'count', count(*),
        'dead_letter_ids', jsonb_agg(l.id ORDER BY l.id))
    FROM told l JOIN withdrawals.endpoints e ON e.organisation_id = l.organisation_id AND e.disabled_at IS NULL
        AND tg_argv[0] = ANY(e.events)
    GROUP BY e.id, l.organisation_id, l.code;
    IF FOUND THEN PERFORM pg_notify('withdrawals_due', ''); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_opened AFTER INSERT ON withdrawals.dead_letters REFERENCING NEW TABLE AS told
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.tell_of_letters('dead_letter.opened');
