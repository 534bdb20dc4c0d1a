-- Live letters of which no webhook was told that they are overdue: once told, a letter is not looked at again.
CREATE INDEX CONCURRENTLY dead_letters_untold ON withdrawals.dead_letters (organisation_id, code, opened_at)
    WHERE state IN ('open', 'redriven') AND overdue_told_at IS NULL;
