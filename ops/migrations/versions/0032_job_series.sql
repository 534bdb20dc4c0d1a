-- The one Series that a job was asked for, for its title; null: it was asked for otherwise. Without a foreign key, because the
-- platform may delete a Series that a job of the past was about.
ALTER TABLE withdrawals.jobs ADD COLUMN series_id bigint;
