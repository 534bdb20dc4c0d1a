-- HR sources, and the receipts of their events.
SELECT 1;
