-- Of a chunk that takes withdrawals back: learners of whom it took back the last one that the brake counts. Null in
-- what an older version decided.
ALTER TABLE withdrawals.chunks ADD COLUMN learners_back integer;
