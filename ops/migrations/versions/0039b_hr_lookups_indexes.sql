CREATE INDEX CONCURRENTLY receipts_to_look_up ON withdrawals.receipts (run_after, id) WHERE lookup;
-- One look-up a person and source at a time, until what it found is applied: the next one begins after that.
CREATE UNIQUE INDEX CONCURRENTLY receipts_one_look_up ON withdrawals.receipts (organisation_id, door, external_id)
    WHERE waiting AND looked_up_at IS NOT NULL;

-- What can be applied, without what has to be looked up first: behind an HR system that does not answer that may be much.
CREATE INDEX CONCURRENTLY receipts_due ON withdrawals.receipts (organisation_id, run_after, id)
    WHERE waiting AND NOT lookup;
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.receipts_waiting;
