-- When a source last sent something, to the minute; and when a secret was last replaced, by which a form that was shown before
-- knows that somebody has replaced it meanwhile.
ALTER TABLE withdrawals.sources ADD COLUMN last_event_at timestamptz, ADD COLUMN rotated_at timestamptz;
ALTER TABLE withdrawals.endpoints ADD COLUMN rotated_at timestamptz;
