"""The books of jobs: the conservation formula, the states of jobs, and what else must exist beside a job.

The formula, for each job and over all of them: accepted = outcomes + ids in unfinished chunks + ids in chunks closed
whole. `job_chunks` are the chunks that count for their job; attempts at dead letters count nothing.
"""

from worker.ledger.books.rule import By, Rule, Scan, Severity

# One row for each job, with what its chunks, outcomes, lines and audit say. A person job counts the chunks it has now:
# 1 until it is applied, then what was found. A split parent counts nothing, and the ids of a chunk that is done are
# counted by their outcomes.
_SUMS = """(
    SELECT j.*, w.organisation_id AS undone_organisation, w.kind AS undone_kind,
        CASE WHEN c.persons THEN coalesce(c.own, 0) ELSE j.accepted END AS asked,
        coalesce(c.open_or_whole, 0) + coalesce(o.n, 0) AS accounted,
        coalesce(c.n, 0) AS chunks, coalesce(c.open, 0) AS open, c.last_closed, coalesce(c.unclean, false) AS unclean,
        coalesce(c.all_superseded, true) AS all_superseded, coalesce(o.n, 0) AS outcomes, l.lines,
        coalesce(a.asked, false) AS asked_on_record, coalesce(a.released, false) AS released_on_record,
        coalesce(a.cancelled, false) AS cancelled_on_record
    FROM withdrawals.jobs j
    LEFT JOIN withdrawals.jobs w ON w.id = j.reinstates
    LEFT JOIN (
        SELECT job_id, count(*) AS n, bool_or(learner_external_id IS NOT NULL) AS persons,
            sum(size) FILTER (WHERE state <> 'split') AS own,
            sum(size) FILTER (WHERE state IN ({unfinished}, {closed_whole})) AS open_or_whole,
            count(*) FILTER (WHERE state IN ({unfinished})) AS open, max(closed_at) AS last_closed,
            bool_or(counts - ARRAY[{clean}] <> '{}') AS unclean, bool_and(state = 'superseded') AS all_superseded
        FROM withdrawals.job_chunks WHERE {within job_id} GROUP BY job_id) c ON c.job_id = j.id
    LEFT JOIN (
        SELECT job_id, count(*) AS n FROM withdrawals.outcomes WHERE {within job_id} GROUP BY job_id
    ) o ON o.job_id = j.id
    LEFT JOIN (
        SELECT job_id, sum(cardinality(enrolment_ids)) AS lines FROM withdrawals.file_lines WHERE {within job_id}
        GROUP BY job_id) l ON l.job_id = j.id
    LEFT JOIN (
        SELECT job_id, bool_or(action IN ('job.submit', 'job.reinstate')) AS asked,
            bool_or(action = 'job.release') AS released, bool_or(action = 'job.cancel') AS cancelled
        FROM withdrawals.audit WHERE {within job_id} AND job_id IS NOT NULL GROUP BY job_id) a ON a.job_id = j.id
    WHERE {within j.id}) j"""

_JOBS = Scan(
    By.JOB,
    _SUMS,
    "'job ' || j.id",
    (
        Rule(
            "conservation",
            "A job accounts for more or fewer ids than it accepted.",
            "Stop the workers. Compare the job's chunks and outcomes with a backup; ids are lost or counted twice.",
            "j.asked <> j.accounted",
            "'accepted ' || j.asked || ', accounted for ' || j.accounted",
        ),
        Rule(
            "job-finished-early",
            "A job has ended, but one of its chunks is unfinished and will never be claimed.",
            "Read the job with `jobs show`. Submit what its unfinished chunks hold as a new job.",
            "j.state IN ('completed', 'completed_with_exceptions', 'superseded') AND j.open > 0",
            "j.state || ', unfinished chunks ' || j.open",
        ),
        Rule(
            "job-unfinished",
            "All chunks of a job closed over a minute ago, but the job has not ended.",
            "Check with `doctor` that a relay runs. It ends such jobs every second; its log says why it cannot.",
            """j.finished_at IS NULL AND j.open = 0 AND (j.state IN ('queued', 'paused') OR j.chunks > 0)
                AND coalesce(j.last_closed, j.admitted_at) < now() - interval '1 minute'""",
            "j.state",
        ),
        Rule(
            "job-state",
            "The state in which a job ended does not fit what its chunks say.",
            "Compare with `jobs show` and the audit. The chunks are right; the job's row was changed.",
            """(j.state = 'completed' AND j.unclean) OR (j.state = 'completed_with_exceptions' AND NOT j.unclean)
                OR (j.state = 'superseded' AND NOT j.all_superseded)""",
            "j.state",
        ),
        Rule(
            "job-not-admitted",
            "A job has outcomes, but was never admitted.",
            "Stop the workers. Work was done past the brake; compare the job's row with the audit.",
            "j.outcomes > 0 AND (j.admitted_at IS NULL OR j.state IN ('scheduled', 'held'))",
            "j.state",
        ),
        Rule(
            "job-left-open",
            "A job was cancelled over two hours ago, and one of its chunks is still open.",
            "Check with `doctor` that a relay runs. It closes such chunks; its log says why it cannot.",
            "j.state = 'cancelled' AND j.open > 0 AND j.finished_at < now() - interval '2 hours'",
        ),
        Rule(
            "job-overdue",
            "A job's time came over an hour ago, and it was neither admitted nor held.",
            "Check with `doctor` that a relay runs. Its log says why it cannot admit the job.",
            "j.state = 'scheduled' AND j.effective_at < now() - interval '1 hour'",
            severity=Severity.WARNING,
        ),
        Rule(
            "undo-organisation",
            "A job takes back a job of another organisation, or one that is itself an undo.",
            "Cancel the job. Find out who changed its row.",
            "j.undone_organisation <> j.organisation_id OR j.undone_kind <> 'withdraw'",
            "'takes back job ' || j.reinstates",
        ),
        Rule(
            "file-lines",
            "The lines kept of a job's file do not cover each of its ids.",
            "Restore `file_lines` from a backup. Only decision receipts need them, to name the line.",
            "(j.lines IS NOT NULL OR j.file_name IS NOT NULL) AND coalesce(j.lines, 0) <> j.accepted",
            "'accepted ' || j.accepted || ', lines ' || coalesce(j.lines, 0)",
        ),
        Rule(
            "job-audit",
            "The audit does not say who asked for a job, released it or cancelled it: a row was removed.",
            "Compare the audit with a backup, and find out who may write it as its owner.",
            """(j.source <> 'hr' AND NOT j.asked_on_record AND NOT {pruned audit j j.created_at})
                OR (j.released_at IS NOT NULL AND NOT j.released_on_record AND NOT {pruned audit j j.released_at})
                OR (j.state = 'cancelled' AND NOT j.cancelled_on_record AND NOT {pruned audit j j.finished_at})""",
        ),
    ),
)

_DEACTIVATIONS = Scan(
    By.JOB,
    """(
    SELECT j.id, j.organisation_id, j.received_at, j.created_at, j.epoch, p.epoch AS current,
        r.id AS receipt, j.idempotency_key || ' of ' || j.door AS key
    FROM withdrawals.jobs j
    LEFT JOIN withdrawals.persons p ON p.organisation_id = j.organisation_id AND p.external_id = j.learner_external_id
    LEFT JOIN withdrawals.receipts r ON r.organisation_id = j.organisation_id AND r.door = j.door
        AND r.idempotency_key = j.idempotency_key
    WHERE {within j.id} AND j.source = 'hr' AND j.epoch IS NOT NULL) j""",
    "'job ' || j.id",
    (
        Rule(
            "epoch-ahead",
            "A deactivation belongs to an event that its person's row does not know.",
            "Compare `persons` with a backup: a row was removed or set back. Send the person's newest event again.",
            "j.current IS NULL OR j.epoch > j.current",
            "'epoch ' || j.epoch || ', person has ' || coalesce(j.current::text, 'no row')",
        ),
        Rule(
            "receipt-missing",
            "A deactivation has no receipt: the row was removed, and the same event would be taken in again.",
            "Restore the receipt from a backup before the HR system repeats the event.",
            "j.receipt IS NULL AND NOT {pruned receipts j j.received_at} AND NOT {pruned receipts j j.created_at}",
            "'key ' || j.key",
        ),
    ),
)

# `a`: what all chunks of the job say, letter chunks included, which hold only changes. `b`: the outcomes, and the ids
# of chunks closed whole, whose state is the outcome of each of their ids.
_COUNTS = Scan(
    By.JOB,
    """(
    SELECT coalesce(a.job_id, b.job_id) AS job_id, coalesce(a.outcome, b.outcome) AS outcome,
        coalesce(a.n, 0) AS said, coalesce(b.n, 0) AS found
    FROM (SELECT c.job_id, key AS outcome, sum(value::integer) AS n
        FROM withdrawals.chunks c, jsonb_each_text(c.counts) WHERE {within c.job_id}
        GROUP BY 1, 2 HAVING sum(value::integer) <> 0) a
    FULL JOIN (SELECT job_id, outcome, sum(n) AS n FROM (
            SELECT job_id, outcome, count(*) AS n FROM withdrawals.outcomes WHERE {within job_id} GROUP BY 1, 2
            UNION ALL SELECT job_id, state, sum(size) FROM withdrawals.job_chunks
                WHERE state IN ({closed_whole}) AND {within job_id} GROUP BY 1, 2) x
        GROUP BY 1, 2) b ON b.job_id = a.job_id AND b.outcome = a.outcome) x""",
    "'job ' || x.job_id",
    (
        Rule(
            "counts",
            "A job's chunks say another number of an outcome than there are: a row was changed, added or removed.",
            "Compare the job's outcomes and chunks with a backup.",
            "x.said <> x.found",
            "x.outcome || ' is ' || x.found || ', its chunks say ' || x.said",
        ),
    ),
)

# `o`: outcomes that name the job that reinstated them. `r`: what those jobs say they reinstated.
_TAKEN_BACK = Scan(
    By.JOB,
    """(
    SELECT coalesce(o.job_id, r.reinstates) AS job_id, coalesce(o.enrolment_id, r.enrolment_id) AS enrolment_id,
        o.job_id IS NULL OR r.id IS NULL AS one_sided
    FROM (SELECT t.job_id, t.enrolment_id, t.reinstated_by FROM withdrawals.outcomes t
        WHERE t.reinstated_by IS NOT NULL AND {within t.job_id} AND NOT EXISTS (SELECT FROM withdrawals.jobs u
            WHERE u.id = t.reinstated_by AND u.prune_id IS NOT NULL)) o
    FULL JOIN (SELECT x.enrolment_id, j.id, j.reinstates FROM withdrawals.jobs j
        JOIN withdrawals.outcomes x ON x.job_id = j.id
        WHERE j.reinstates IS NOT NULL AND j.prune_id IS NULL AND {within j.reinstates} AND x.outcome = 'reinstated') r
    ON r.id = o.reinstated_by AND r.reinstates = o.job_id AND r.enrolment_id = o.enrolment_id) x""",
    "'job ' || x.job_id || ', enrolment ' || x.enrolment_id",
    (
        Rule(
            "taken-back",
            "An outcome and the job that took it back do not name each other.",
            "Compare both outcomes with a backup, and the enrolment with what they say.",
            "x.one_sided",
        ),
    ),
)

SCANS = (_JOBS, _DEACTIVATIONS, _COUNTS, _TAKEN_BACK)
