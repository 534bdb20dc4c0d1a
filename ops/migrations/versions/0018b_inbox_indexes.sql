ALTER TABLE withdrawals.receipts VALIDATE CONSTRAINT receipts_together_check;
CREATE INDEX CONCURRENTLY receipts_waiting ON withdrawals.receipts (organisation_id, run_after, id) WHERE waiting;
-- Whether an event of a person waits, before their deactivation is decided.
CREATE INDEX CONCURRENTLY receipts_waiting_of_person ON withdrawals.receipts (organisation_id, external_id)
    WHERE waiting;
