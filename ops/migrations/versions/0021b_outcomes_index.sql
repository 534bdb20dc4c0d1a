-- Outcomes come in the order of time, so the time is summarised for each range of blocks, and costs a row nothing.
-- Reports find a small organisation's outcomes by its jobs instead.
CREATE INDEX CONCURRENTLY outcomes_by_time ON withdrawals.outcomes USING brin (decided_at)
    WITH (pages_per_range = 32, autosummarize = on);
DROP INDEX CONCURRENTLY IF EXISTS withdrawals.outcomes_in_time;
