-- The dead-letter desk: assignment, ageing, what explains a decision.
SELECT 1;
