-- Persons who were erased at their own request. A hash with a secret key is all that is kept of the external id, so that
-- an event that comes later is known to be about them. The key is random, and sealed with WITHDRAWALS_SECRET_KEY.
ALTER TABLE withdrawals.organisation_settings ADD COLUMN erasure_key text;
CREATE TABLE withdrawals.erasures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    person_hash bytea NOT NULL,
    pseudonym text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    erased_by text NOT NULL,
    note text NOT NULL,
    counts jsonb NOT NULL DEFAULT '{}',  -- rows by table and column
    finished_at timestamptz,             -- null: some texts are not gone through yet
    lifted_at timestamptz,               -- the person is back: events count again
    UNIQUE (organisation_id, person_hash)
);

-- Rows under a seal that were changed by an erasure: the hash that the seal counted, and the hash that they have now.
CREATE TABLE withdrawals.erased_rows (
    table_name text NOT NULL CHECK (table_name IN ('audit', 'receipts')),
    row_id bigint NOT NULL,
    erasure_id bigint NOT NULL REFERENCES withdrawals.erasures,
    sealed_hash bigint NOT NULL,
    current_hash bigint NOT NULL,
    PRIMARY KEY (table_name, row_id)
);
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON withdrawals.erased_rows
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.never('what was erased stays on record');

-- The audit stays append-only, but for the words of a row that is on record as erased, and rows on record as pruned.
DROP TRIGGER append_only ON withdrawals.audit;
CREATE TRIGGER append_only BEFORE TRUNCATE ON withdrawals.audit
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.audit_is_append_only();
CREATE FUNCTION withdrawals.only_erasure_changes_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (new.id, new.at, new.organisation_id, new.action, new.job_id, new.dead_letter_id) IS DISTINCT FROM
            (old.id, old.at, old.organisation_id, old.action, old.job_id, old.dead_letter_id)
        OR NOT EXISTS (SELECT FROM withdrawals.erased_rows e WHERE e.table_name = 'audit' AND e.row_id = old.id) THEN
        RAISE EXCEPTION 'the audit is append-only';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER only_erasure BEFORE UPDATE ON withdrawals.audit
    FOR EACH ROW EXECUTE FUNCTION withdrawals.only_erasure_changes_audit();

-- Rows of the audit and receipts can be deleted only in the transaction that records exactly these rows. Only the owner
-- has the right to delete from the audit. An erased row counts in its record as in its seal.
-- Arguments: the time of a row, what of it a seal counts (`worker/ledger/books/seals.py`), and the message.
CREATE FUNCTION withdrawals.only_recorded() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE is_recorded boolean; BEGIN
    EXECUTE format($query$
        SELECT NOT EXISTS (
            SELECT FROM (
                SELECT organisation_id, CAST(%1$I AT TIME ZONE 'UTC' AS date) AS day, count(*) AS n,
                    bit_xor(coalesce((SELECT x.sealed_hash FROM withdrawals.erased_rows x
                        WHERE x.table_name = %3$L AND x.row_id = removed.id),
                        hashtextextended(CAST(ROW(%2$s) AS text), 0))) AS digest
                FROM removed GROUP BY 1, 2) f
            WHERE NOT EXISTS (SELECT FROM withdrawals.prunes p WHERE p.kind = %3$L AND p.day = f.day
                AND p.organisation_id = f.organisation_id AND p.row_count = f.n AND p.digest = f.digest
                AND p.pruned_at = now())) $query$, tg_argv[0], tg_argv[1], tg_table_name) INTO is_recorded;
    IF NOT is_recorded THEN
        RAISE restrict_violation USING MESSAGE = tg_argv[2], SCHEMA = 'withdrawals', TABLE = tg_table_name;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER only_recorded AFTER DELETE ON withdrawals.audit REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.only_recorded('at',
        'id, organisation_id, actor, action, job_id, dead_letter_id, note, detail, extract(epoch FROM at)',
        'the audit is append-only: rows go only with a record of them');
CREATE TRIGGER only_recorded AFTER DELETE ON withdrawals.receipts REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION withdrawals.only_recorded('received_at',
        'id, organisation_id, door, idempotency_key, encode(request_hash, ''hex''), extract(epoch FROM received_at)',
        'receipts go only with a record of them');

-- The new one allows more.

-- squawk-ignore ban-drop-constraint
ALTER TABLE withdrawals.receipts DROP CONSTRAINT receipts_status_check, ADD CONSTRAINT receipts_status_check CHECK (
    status IN ('accepted', 'scheduled', 'held', 'noted', 'reactivated', 'ignored', 'invalid', 'erased')) NOT VALID;

-- While a receiver changes over to a new secret, deliveries are signed with both.
ALTER TABLE withdrawals.endpoints ADD COLUMN previous_secret text, ADD COLUMN previous_until timestamptz;
