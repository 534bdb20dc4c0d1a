"""Full rosters that were accepted: each is applied to its end, or somebody has to look at it."""

from worker.ledger.books.rule import By, Rule, Scan, Severity

# A newer one that was applied has found whom a failed one has left.
_ROSTERS = Scan(
    By.WHOLE,
    "withdrawals.rosters r",
    "'roster ' || r.id || ' of organisation ' || r.organisation_id",
    (
        Rule(
            "roster-failed",
            "A full roster could not be applied to its end. People who left may still hold enrolments.",
            "Read why with `rosters show`, and mend the cause. Confirm the roster again, or send a newer one.",
            """r.state = 'failed' AND NOT EXISTS (SELECT FROM withdrawals.rosters n
                WHERE n.organisation_id = r.organisation_id AND n.as_of > r.as_of AND n.state = 'done')""",
            "r.failure",
            severity=Severity.WARNING,
        ),
        Rule(
            "roster-late",
            "A full roster was accepted over an hour ago, and is not applied to its end.",
            "Read with `rosters show` whether it fails. Else check with `doctor` that a relay runs.",
            "r.state = 'accepted' AND r.accepted_at < now() - interval '1 hour'",
            "r.failure",
            severity=Severity.WARNING,
        ),
    ),
    "r.state IN ('failed', 'accepted')",
)

SCANS = (_ROSTERS,)
