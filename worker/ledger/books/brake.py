"""The books of the brake: its window says what the jobs say, and an ended job counts those whom it withdrew.

The same of each Series, of jobs that are counted by Series.

A job and its minute of the window change in one transaction. What the window says of older minutes decides nothing.
"""

from worker.ledger.books.rule import By, Rule, Scan, Severity

# Minutes that a window can reach (720 hours), with the learners of the jobs that were admitted in each.
_MINUTES = """(
    SELECT coalesce(v.organisation_id, j.organisation_id) AS organisation_id, coalesce(v.minute, j.minute) AS minute,
        coalesce(v.jobs, 0) AS said, coalesce(j.learners, 0) AS found
    FROM (SELECT * FROM withdrawals.brake_volume WHERE minute > now() - interval '720 hours') v
    FULL JOIN (SELECT organisation_id, date_trunc('minute', admitted_at) AS minute, sum(learners) AS learners
        FROM withdrawals.jobs WHERE admitted_at > now() - interval '719 hours' AND state <> 'superseded'
        GROUP BY 1, 2) j ON j.organisation_id = v.organisation_id AND j.minute = v.minute
    WHERE coalesce(v.minute, j.minute) > date_trunc('minute', now() - interval '718 hours')) m"""

_SAID = "'the window says ' || m.said || ', its jobs ' || m.found"

_WINDOW = Scan(
    By.WHOLE,
    _MINUTES,
    "'organisation ' || m.organisation_id || ' at ' || m.minute",
    (
        Rule(
            "brake-window-low",
            "The brake's window has fewer learners than the jobs that were admitted: it holds too late.",
            "Find out who changed the row. Compare the jobs of that minute with the audit.",
            "m.said < m.found",
            _SAID,
        ),
        Rule(
            "brake-window-high",
            "The brake's window has more learners than the jobs that were admitted: it holds too early.",
            "A version before 0020 that runs beside this one leaves this. It is counted again before a job is held.",
            "m.said > m.found",
            _SAID,
            severity=Severity.WARNING,
        ),
    ),
)

# Ended jobs over ids, of the organisation's window, with the learners whom they withdrew by themselves. What an attempt
# at a letter withdrew was counted with the attempt, and a person who failed whole can be withdrawn only by one.
_LEARNERS = Scan(
    By.JOB,
    """(
    SELECT j.id, coalesce(j.learners, 0) AS said, j.correct_due, j.finished_at, count(DISTINCT e.learner_id) AS found
    FROM withdrawals.jobs j
    LEFT JOIN withdrawals.organisation_settings s ON s.organisation_id = j.organisation_id
    LEFT JOIN withdrawals.outcomes o ON o.job_id = j.id AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL
        AND o.dead_letter_id IS NULL
    LEFT JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = j.organisation_id
    WHERE {within j.id} AND j.kind = 'withdraw' AND j.source <> 'support' AND j.learner_external_id IS NULL
        AND j.admitted_at > now() - make_interval(hours => coalesce(s.brake_hours, 24))
        AND j.finished_at IS NOT NULL
    GROUP BY j.id) j""",
    "'job ' || j.id",
    (
        Rule(
            "brake-learners",
            "A job has ended and counts fewer learners in the brake's window than it withdrew.",
            "Find out who changed the job's row. Until it leaves the window, the brake holds too late.",
            "NOT j.correct_due AND j.said < j.found",
            "'withdrew ' || j.found || ', counts ' || j.said",
        ),
        Rule(
            "brake-uncorrected",
            "A job ended over two hours ago, and what the brake counts of it is not corrected.",
            "Check with `doctor` that a relay runs. Its log says why it cannot correct it.",
            "j.correct_due AND j.finished_at < now() - interval '2 hours'",
            severity=Severity.WARNING,
        ),
    ),
)

# Ended jobs that are counted by Series: a row for each Series, with the sums of the job. An undo that has not ended has
# given nothing back yet, nor does an attempt at a letter of an undo. A person who failed whole is withdrawn by an
# attempt, which was counted itself. OFFSET 0: looked up for each such job, and there are few.
_SERIES = Scan(
    By.JOB,
    """(
    SELECT j.id, s.*,
        EXISTS (SELECT FROM withdrawals.jobs u WHERE u.reinstates = j.id AND (u.finished_at IS NULL OR u.correct_due
            OR EXISTS (SELECT FROM withdrawals.chunks c WHERE c.job_id = u.id AND c.redrives IS NOT NULL OFFSET 0))
        ) AS is_being_undone
    FROM withdrawals.jobs j CROSS JOIN LATERAL (
        SELECT x.series_id, sum(x.said) AS said, sum(x.found) AS found, sum(sum(x.said)) OVER () AS said_of_job,
            sum(sum(x.found)) OVER () AS found_of_job, row_number() OVER (ORDER BY x.series_id) AS nth
        FROM (
            SELECT b.series_id, b.learners AS said, 0 AS found FROM withdrawals.brake_series b WHERE b.job_id = j.id
            UNION ALL
            SELECT e.series_id, 0, 1 FROM withdrawals.outcomes o CROSS JOIN LATERAL (
                SELECT e.series_id FROM lms.enrolments e
                WHERE e.id = o.enrolment_id AND e.organisation_id = o.organisation_id OFFSET 0) e
            WHERE o.job_id = j.id AND o.outcome = 'withdrawn' AND o.reinstated_by IS NULL AND o.dead_letter_id IS NULL
        ) x GROUP BY 1 OFFSET 0) s
    WHERE {within j.id} AND j.kind = 'withdraw' AND j.source <> 'support' AND j.admitted_at IS NOT NULL
        AND j.finished_at > now() - interval '720 hours' AND NOT j.correct_due AND j.state <> 'superseded'
        AND j.prune_id IS NULL
        AND EXISTS (SELECT FROM withdrawals.brake_series b WHERE b.job_id = j.id)
        AND NOT EXISTS (SELECT FROM withdrawals.chunks c
            WHERE c.job_id = j.id AND c.redrives IS NOT NULL AND c.learner_external_id IS NOT NULL OFFSET 0)) j""",
    "'job ' || j.id",
    (
        Rule(
            "brake-series-low",
            "A job has ended and counts fewer enrolments of its Series in the brake's window than it withdrew.",
            "Find out who changed `brake_series`. Until the job leaves the window, the limit holds too late.",
            "j.nth = 1 AND j.said_of_job < j.found_of_job",
            "'withdrew ' || j.found_of_job || ', counts ' || j.said_of_job",
        ),
        Rule(
            "brake-series-other",
            "A job has ended and does not count of a Series what it withdrew from it and nobody took back.",
            "Ask the platform if it moved or deleted enrolments. Else find out who changed `brake_series`.",
            "NOT j.is_being_undone AND j.said <> j.found",
            "'of Series ' || j.series_id || ' withdrew ' || j.found || ', counts ' || j.said",
            severity=Severity.WARNING,
        ),
    ),
)

SCANS = (_WINDOW, _LEARNERS, _SERIES)
