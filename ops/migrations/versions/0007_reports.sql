-- Indexes for reports and exports.
SELECT 1;
