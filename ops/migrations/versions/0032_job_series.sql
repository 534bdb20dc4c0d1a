-- The one Series that a job is about, for its title; null: several, or nobody has looked. Without a foreign key, because the
-- platform may delete a Series that a job of the past was about.
ALTER TABLE withdrawals.jobs ADD COLUMN series_id bigint;
