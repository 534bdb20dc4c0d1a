"""The books of dead letters, and of the runs that act on many of them."""

from worker.ledger.books.rule import By, Rule, Scan

_LETTERS = Scan(
    By.LETTER,
    """(
    SELECT d.*, j.organisation_id AS job_organisation,
        EXISTS (SELECT FROM withdrawals.outcomes o WHERE o.dead_letter_id = d.id AND o.outcome IN ({needs_support}))
            OR EXISTS (SELECT FROM withdrawals.job_chunks c WHERE c.dead_letter_id = d.id) AS needed,
        EXISTS (SELECT FROM withdrawals.letter_chunks c WHERE c.letter_id = d.id AND c.state IN ('ready', 'claimed'))
            AS tried,
        d.remedy IN ('keep', 'discard') AND NOT EXISTS (SELECT FROM withdrawals.audit a
            WHERE a.dead_letter_id = d.id AND a.action = 'dead_letter.' || d.remedy)
            AND NOT {pruned audit d d.closed_at} AS unasked
    FROM withdrawals.dead_letters d LEFT JOIN withdrawals.jobs j ON j.id = d.job_id
    WHERE {within d.id}) d""",
    "'dead letter ' || d.id",
    (
        Rule(
            "letter-organisation",
            "A dead letter lies in another organisation than the job that opened it.",
            "Find out who changed the row: that organisation reads what it must not.",
            "d.organisation_id <> d.job_organisation",
            "'job ' || d.job_id",
        ),
        # An invalid event has neither outcome nor chunk: nothing was made of it.
        Rule(
            "letter-without-cause",
            "A dead letter is open, but nothing needs support any more.",
            "Compare its outcomes with a backup: one was changed. Discard the letter with a note.",
            "d.state IN ({live}) AND d.code <> 'invalid_event' AND NOT d.needed",
            "d.code || ', ' || d.state",
        ),
        # `keep` closes a letter by a person's decision, so it may leave an outcome as it is.
        Rule(
            "letter-closed-early",
            "A dead letter was resolved by an attempt, but an outcome of it still needs support.",
            "Support cannot see that outcome. Set the letter to `open`, then redrive it.",
            "d.state = 'resolved' AND d.remedy IN ('override', 'redrive', 'cascade') AND d.needed",
        ),
        Rule(
            "letter-not-tried",
            "A dead letter waits for an attempt, but there is none: it would wait for ever.",
            "Set the letter to `open`, then redrive it.",
            "d.state = 'redriven' AND NOT d.tried",
        ),
        Rule(
            "letter-audit",
            "The audit does not say who kept or discarded a dead letter: a row was removed.",
            "Compare the audit with a backup, and find out who may write it as its owner.",
            "d.unasked",
            "d.remedy",
        ),
    ),
)

_RUNS = Scan(
    By.WHOLE,
    """(
    SELECT r.id, r.letters, (SELECT count(*) FROM withdrawals.run_letters l WHERE l.run_id = r.id) AS listed, (
        SELECT min(l.dead_letter_id) FROM withdrawals.run_letters l
        JOIN withdrawals.dead_letters d ON d.id = l.dead_letter_id
        WHERE l.run_id = r.id AND d.organisation_id <> r.organisation_id) AS foreign_letter
    FROM withdrawals.runs r) r""",
    "'run ' || r.id",
    (
        Rule(
            "run-letters",
            "A run does not list as many dead letters as matched at its start, or one of another organisation.",
            "Stop the run. Start a new one over the same filter.",
            "r.letters <> r.listed OR r.foreign_letter IS NOT NULL",
            "'matched ' || r.letters || ', listed ' || r.listed",
        ),
    ),
)

SCANS = (_LETTERS, _RUNS)
