"""The books of chunks and outcomes: every id is where it was put, in its own organisation, and will be decided once."""

from worker.ledger.books.rule import By, Rule, Scan, Severity

# Each chunk with its job, the letter that it tries again (`l`), the letter that it failed into (`f`), the chunk that it
# was split from (`p`), and what its ids are now.
_CHUNKS = Scan(
    By.JOB,
    """withdrawals.chunks c
    JOIN withdrawals.jobs j ON j.id = c.job_id
    LEFT JOIN withdrawals.dead_letters l ON l.id = c.redrives
    LEFT JOIN withdrawals.dead_letters f ON f.id = c.dead_letter_id
    LEFT JOIN withdrawals.chunks p ON p.id = c.parent_id AND {within p.job_id}
    CROSS JOIN LATERAL (SELECT cardinality(c.enrolment_ids) AS ids, CASE WHEN c.digest IS NOT NULL THEN (
        SELECT bit_xor(hashint8extended(i.id, c.job_id)) FROM unnest(c.enrolment_ids) i(id)) END AS digest
        OFFSET 0) x""",
    "'chunk ' || c.id || ' of job ' || c.job_id",
    (
        Rule(
            "chunk-organisation",
            "A chunk lies in another organisation than its job or its dead letter.",
            "Cancel the job at once: workers would lock and decide by the wrong organisation.",
            """c.organisation_id <> j.organisation_id OR c.organisation_id <> l.organisation_id
                OR c.organisation_id <> f.organisation_id""",
        ),
        Rule(
            "chunk-size",
            "A chunk does not hold as many ids as it says.",
            "Cancel the job, and compare the chunk with a backup.",
            "x.ids <> c.size",
            "'size ' || c.size || ', ids ' || x.ids",
        ),
        Rule(
            "chunk-ids",
            "The ids of a chunk are not those that were accepted: some were lost, added or exchanged.",
            "Cancel the job, and compare the chunk with a backup.",
            "x.digest <> c.digest OR (c.digest IS NOT NULL AND x.digest IS NULL)",
        ),
        Rule(
            "chunk-person",
            "A chunk names another person than its job.",
            "Cancel the job. Find out who changed the row.",
            "c.redrives IS NULL AND c.learner_external_id <> coalesce(j.learner_external_id, '')",
        ),
        Rule(
            "chunk-never-due",
            "An unfinished chunk is in no queue: it waits under a job that was admitted, waits for an attempt later "
            "than any attempt may be, or has a claim that never runs out.",
            "Pause and resume the job; if it stays, set the chunk to `ready` with a `run_after` of now.",
            """(c.state = 'waiting' AND (j.state = 'queued' OR c.redrives IS NOT NULL))
                OR (c.state = 'ready' AND c.run_after > now() + CAST(:furthest AS interval))
                OR (c.state = 'claimed' AND coalesce(c.lease_until, 'infinity') > now() + interval '2 hours')""",
            "c.state || ' under a job that is ' || j.state || ', run after ' || c.run_after",
        ),
        Rule(
            "chunk-before-admission",
            "A chunk can be claimed although its job waits for its time or for a second person.",
            "Cancel the job, or set the chunk to `waiting`.",
            "c.redrives IS NULL AND c.state IN ('ready', 'claimed') AND j.state IN ('scheduled', 'held')",
            "c.state || ' under a job that is ' || j.state",
        ),
        Rule(
            "lease-abandoned",
            "A claim ran out over an hour ago, and nobody has taken it over.",
            "Check with `doctor` that a relay runs. Its log says why it cannot take the claim over.",
            "c.state = 'claimed' AND c.lease_until < now() - interval '1 hour'",
            severity=Severity.WARNING,
        ),
        Rule(
            "override-unasked",
            "A chunk may withdraw what a pathway owns, but no approver decided that.",
            "Cancel the job at once. Compare with the audit.",
            "c.override AND (CASE WHEN c.redrives IS NULL THEN j.source <> 'support' ELSE c.remedy IS NULL END)",
        ),
        Rule(
            "attempt-subject",
            "An attempt at a dead letter is about another enrolment or person than the letter.",
            "Stop the workers, and compare the chunk with the letter.",
            """c.redrives IS NOT NULL AND (c.enrolment_ids[1] IS DISTINCT FROM l.enrolment_id OR x.ids > 1
                OR c.learner_external_id IS DISTINCT FROM l.learner_external_id)""",
            "'dead letter ' || c.redrives",
        ),
        Rule(
            "attempt-letter",
            "An attempt at a dead letter is under way, but the letter is not waiting for one.",
            "Compare the letter with the audit. The attempt will decide, and the letter will not show it.",
            "c.redrives IS NOT NULL AND c.state IN ({unfinished}) AND l.state <> 'redriven'",
            "'dead letter ' || c.redrives || ' is ' || l.state",
        ),
        Rule(
            "failed-into",
            "A chunk was given up into a dead letter that is about somebody else.",
            "Compare the chunk and the letter with a backup before the letter is tried again.",
            """c.state = 'failed' AND (f.learner_external_id IS DISTINCT FROM c.learner_external_id
                OR c.redrives <> c.dead_letter_id)""",
            "'dead letter ' || c.dead_letter_id",
        ),
        Rule(
            "split-parent",
            "A half of a chunk comes from a chunk that was not split, or from another job.",
            "Cancel the job, and compare its chunks with a backup.",
            "c.parent_id IS NOT NULL AND (p.id IS NULL OR p.state <> 'split' OR p.job_id <> c.job_id)",
        ),
    ),
    "{within c.job_id} AND {within j.id}",
)

_SPLITS = Scan(
    By.JOB,
    """(
    SELECT c.id, c.job_id, c.enrolment_ids, (
        SELECT array_agg(i.id ORDER BY h.id, i.n)
        FROM withdrawals.chunks h, unnest(h.enrolment_ids) WITH ORDINALITY i(id, n)
        WHERE h.job_id = c.job_id AND h.parent_id = c.id) AS halves
    FROM withdrawals.chunks c WHERE c.state = 'split' AND {within c.job_id}) c""",
    "'chunk ' || c.id || ' of job ' || c.job_id",
    (
        Rule(
            "split-halves",
            "The halves of a split chunk do not hold the ids that it held.",
            "Cancel the job, and compare its chunks with a backup.",
            "c.halves IS DISTINCT FROM c.enrolment_ids",
        ),
    ),
)

_ATTEMPTS = Scan(
    By.JOB,
    """(
    SELECT c.id, c.job_id, c.attempts, (SELECT count(*) FROM withdrawals.attempts a
        WHERE a.chunk_id = c.id AND a.result = 'failed') AS recorded
    FROM withdrawals.chunks c WHERE c.attempts > 0 AND {within c.job_id}) c""",
    "'chunk ' || c.id || ' of job ' || c.job_id",
    (
        Rule(
            "attempts",
            "A chunk has failed more often than is on record: a row of `attempts` was removed.",
            "Compare `attempts` with a backup.",
            "c.attempts > c.recorded",
            "'failed ' || c.attempts || ', on record ' || c.recorded",
        ),
    ),
)

_OVERLAPS = Scan(
    By.JOB,
    """(
    SELECT job_id, enrolment_id FROM (
        SELECT job_id, unnest(enrolment_ids) AS enrolment_id FROM withdrawals.job_chunks
            WHERE state IN ({unfinished}, {closed_whole}) AND {within job_id}
        UNION ALL SELECT o.job_id, o.enrolment_id FROM withdrawals.outcomes o
            WHERE {within o.job_id} AND o.job_id IN (SELECT c.job_id FROM withdrawals.job_chunks c
                WHERE {within c.job_id} AND c.enrolment_ids IS NOT NULL
                    AND c.state IN ({unfinished}, {closed_whole}))) ids
    GROUP BY job_id, enrolment_id HAVING count(*) > 1) x""",
    "'job ' || x.job_id || ', enrolment ' || x.enrolment_id",
    (
        Rule(
            "id-twice",
            "An id lies in two chunks of its job, or in a chunk and has an outcome too.",
            "Cancel the job, and compare its chunks with a backup.",
        ),
    ),
)

# Chunks and outcomes are brought together by groups. A join held each chunk against all outcomes, until there were
# statistics of them.
_DECIDED = Scan(
    By.JOB,
    """(
    SELECT id, max(job_id) AS job_id, max(state) AS state, max(size) AS size, max(ids) AS ids, max(n) AS n,
        max(outcomes) AS outcomes
    FROM (
        SELECT c.id, c.job_id, c.state, c.size, CASE WHEN c.state = 'done' AND c.enrolment_ids IS NOT NULL
            THEN coalesce(c.digest, (SELECT bit_xor(hashint8extended(i.id, c.job_id))
                FROM unnest(c.enrolment_ids) i(id))) END AS ids, NULL::bigint AS n, NULL::bigint AS outcomes
        FROM withdrawals.chunks c WHERE {within c.job_id} AND c.redrives IS NULL
        UNION ALL
        SELECT chunk_id, NULL, NULL, NULL, NULL, count(*), bit_xor(hashint8extended(enrolment_id, job_id))
        FROM withdrawals.outcomes WHERE {within job_id} GROUP BY chunk_id) both_sides
    GROUP BY id HAVING max(state) IS NOT NULL) c""",
    "'chunk ' || c.id || ' of job ' || c.job_id",
    (
        Rule(
            "chunk-outcomes",
            "The outcomes of a decided chunk are not about the ids that it held, or an undecided chunk has outcomes.",
            "Compare the outcomes of the chunk with a backup: rows were removed, added or exchanged.",
            """CASE WHEN c.state = 'done' THEN coalesce(c.n, 0) <> c.size OR c.ids <> c.outcomes
                ELSE c.n > 0 END""",
            "c.state || ', ids ' || c.size || ', outcomes ' || coalesce(c.n, 0)",
        ),
    ),
)

# Each outcome with its job, its chunk and its letter (`d`). A chunk of another slice is of another job.
_OUTCOMES = Scan(
    By.JOB,
    """withdrawals.outcomes o
    LEFT JOIN withdrawals.jobs j ON j.id = o.job_id AND {within j.id}
    LEFT JOIN withdrawals.chunks c ON c.id = o.chunk_id AND {within c.job_id}
    LEFT JOIN withdrawals.dead_letters d ON d.id = o.dead_letter_id""",
    "'job ' || o.job_id || ', enrolment ' || o.enrolment_id",
    (
        Rule(
            "outcome-job",
            "An outcome belongs to a job or a chunk that does not exist, or to a chunk of another job.",
            "Compare the outcome and its job with a backup.",
            "j.id IS NULL OR c.id IS NULL OR c.job_id <> o.job_id OR c.redrives IS NOT NULL",
            "'chunk ' || o.chunk_id",
        ),
        Rule(
            "outcome-organisation",
            "An outcome lies in another organisation than its job.",
            "Find out who changed the row: that organisation reads what it must not.",
            "o.organisation_id <> j.organisation_id",
        ),
        Rule(
            "outcome-kind",
            "A job that withdraws has an outcome of an undo, or the other way round.",
            "Compare the outcome with a backup.",
            """(j.kind = 'withdraw' AND o.outcome IN ('reinstated', 'enrolled_again', 'changed_since',
                'learner_inactive')) OR (j.kind = 'reinstate' AND o.outcome IN ('withdrawn', 'already_withdrawn',
                'enrolment_ended', 'unknown_status', 'pathway_owned', 'not_found', 'protected'))""",
            "o.outcome",
        ),
        Rule(
            "outcome-letter",
            "An outcome that needs support has no dead letter of its own organisation, enrolment and cause.",
            "Support cannot see it. Compare the outcome and its letter with a backup.",
            """o.outcome IN ({needs_support}) AND (o.outcome <> 'protected' OR o.dead_letter_id IS NOT NULL)
                AND (d.id IS NULL OR d.organisation_id <> o.organisation_id
                OR d.enrolment_id IS DISTINCT FROM o.enrolment_id
                OR CASE WHEN o.outcome = 'failed' THEN d.code NOT IN ('retries_exhausted', 'poison')
                    ELSE d.code <> o.outcome END)""",
            "o.outcome",
        ),
        Rule(
            "outcome-status",
            "An outcome does not follow from the status that was seen: the rules were broken or the row was changed.",
            "Read the decision with `explain`, and compare the outcome with a backup.",
            """CASE o.outcome WHEN 'withdrawn' THEN coalesce(o.prior_status NOT IN ({active}), true)
                WHEN 'enrolment_ended' THEN coalesce(o.prior_status NOT IN ({ended}), true)
                WHEN 'pathway_owned' THEN o.pathway_id IS NULL OR coalesce(o.prior_status NOT IN ({active}), true)
                WHEN 'protected' THEN coalesce(o.prior_status IN ('{withdrawn}', {ended}), true)
                WHEN 'reinstated' THEN o.prior_status IS DISTINCT FROM '{withdrawn}'
                WHEN 'unknown_status' THEN o.prior_status IS NULL
                WHEN 'not_found' THEN o.prior_status IS NOT NULL
                WHEN 'already_withdrawn' THEN o.prior_status IS DISTINCT FROM '{withdrawn}' AND (
                    SELECT count(*) FROM withdrawals.outcomes s WHERE s.enrolment_id = o.enrolment_id
                        AND s.outcome = 'withdrawn' AND s.decided_at = o.decided_at) = 0
                    AND NOT EXISTS (SELECT FROM withdrawals.pruned_withdrawals p
                        WHERE p.organisation_id = o.organisation_id
                            AND p.day = CAST(o.decided_at AT TIME ZONE 'UTC' AS date))
                ELSE false END""",
            "o.outcome || ' after ' || coalesce(o.prior_status, 'nothing')",
        ),
        Rule(
            "pathway-withdrawn",
            "An enrolment that a pathway owns was withdrawn, but no approver decided that.",
            "Take the withdrawal back with `jobs reinstate`, and find out who changed the rows.",
            """o.outcome = 'withdrawn' AND o.pathway_id IS NOT NULL AND NOT c.override AND NOT EXISTS (
                SELECT FROM withdrawals.letter_chunks a WHERE a.job_id = o.job_id AND a.override
                    AND a.enrolment_ids = ARRAY[o.enrolment_id])
                AND NOT EXISTS (SELECT FROM withdrawals.letter_chunks a WHERE a.job_id = o.job_id AND a.override
                    AND a.learner_external_id IS NOT NULL)""",
            "'pathway ' || o.pathway_id",
        ),
        # By the times alone: both are of the database's clock, and a protection starts once it has the locks that those
        # who decide hold.
        Rule(
            "protected-withdrawn",
            "An enrolment was withdrawn while a legal hold or an exemption protected it.",
            "Take the withdrawal back with `jobs reinstate`, and find out who changed the rows.",
            """o.outcome = 'withdrawn' AND o.reinstated_by IS NULL AND EXISTS (SELECT FROM withdrawals.protections g
                WHERE g.organisation_id = o.organisation_id AND g.ends_at > o.decided_at)
                AND (EXISTS (SELECT FROM withdrawals.protections p WHERE p.organisation_id = o.organisation_id
                        AND p.enrolment_id = o.enrolment_id AND p.ends_at > o.decided_at
                        AND p.starts_at <= o.decided_at OFFSET 0)
                    OR EXISTS (SELECT FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id
                        JOIN withdrawals.protections p ON p.organisation_id = l.organisation_id
                            AND p.learner_external_id = l.external_id AND p.ends_at > o.decided_at
                            AND p.starts_at <= o.decided_at
                        WHERE e.id = o.enrolment_id AND e.organisation_id = o.organisation_id OFFSET 0))""",
            "'decided at ' || o.decided_at",
        ),
        Rule(
            "protected-without-protection",
            "An outcome says that the enrolment was protected, but no protection is on record.",
            "Compare the protections with a backup: one was changed.",
            """o.outcome = 'protected' AND NOT EXISTS (SELECT FROM withdrawals.protections p
                WHERE p.organisation_id = o.organisation_id AND p.ends_at > o.decided_at)""",
        ),
    ),
    "{within o.job_id}",
)

SCANS = (_CHUNKS, _SPLITS, _ATTEMPTS, _OVERLAPS, _DECIDED, _OUTCOMES)
