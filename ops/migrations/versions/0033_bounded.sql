-- Whether a job has a chunk that is decided, while others are not: it is shown as running. Jobs that one claim decides
-- whole are never marked. An older version marks none; the relay's pass after the start does.
ALTER TABLE withdrawals.jobs ADD COLUMN begun boolean NOT NULL DEFAULT false;

-- Of a chunk that takes withdrawals back: learners of whom it took back the last one that the brake counts. Null in
-- what an older version decided.
ALTER TABLE withdrawals.chunks ADD COLUMN learners_back integer;
