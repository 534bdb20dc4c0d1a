-- The brake, and what plans and scheduled jobs need.
SELECT 1;
