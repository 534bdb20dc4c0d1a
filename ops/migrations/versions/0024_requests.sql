-- The request that an event or a job came with, so that what a worker does later can be traced back to it: its id, and
-- the context of its trace while traces are on. Null for what the release before has written.
ALTER TABLE withdrawals.receipts ADD COLUMN request_id text, ADD COLUMN traceparent text;
ALTER TABLE withdrawals.jobs ADD COLUMN request_id text, ADD COLUMN traceparent text,
    ADD COLUMN received_at timestamptz;  -- of the HR event that asked; null: the job was made when it was asked for
