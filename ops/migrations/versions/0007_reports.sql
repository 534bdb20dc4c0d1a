-- Indexes for reports and exports.

-- What an organisation's jobs decided in a span of time. Outcomes come in the order of time, so it grows at one end.
CREATE INDEX outcomes_in_time ON withdrawals.outcomes (organisation_id, decided_at);
