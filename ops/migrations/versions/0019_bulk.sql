-- The ids of a chunk are stored as they are: to compress them took half the time of accepting a large file, and each
-- read of a chunk unpacked them again. A million ids take 8 MB. Chunks that were written before stay as they are.
ALTER TABLE withdrawals.chunks ALTER COLUMN enrolment_ids SET STORAGE EXTERNAL;
ALTER TABLE withdrawals.file_lines ALTER COLUMN enrolment_ids SET STORAGE EXTERNAL,
    ALTER COLUMN lines SET STORAGE EXTERNAL;
