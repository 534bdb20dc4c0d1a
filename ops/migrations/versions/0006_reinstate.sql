-- Reinstating what a job withdrew.
SELECT 1;
