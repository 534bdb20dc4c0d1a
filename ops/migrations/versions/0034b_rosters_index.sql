-- The newest receipt of a source, in one look.
CREATE INDEX CONCURRENTLY receipts_of_source ON withdrawals.receipts (organisation_id, door, received_at);
