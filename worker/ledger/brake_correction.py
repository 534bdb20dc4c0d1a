"""The brake's count, corrected when a job ends: by then it is known whom the job withdrew.

A job's row and its minute of the window change together, so that the minutes say at any time what the jobs say.
"""

from collections.abc import Sequence
from contextlib import nullcontext

from sqlalchemy import Connection, text

from schemas.catalogue import Outcome
from worker.ledger.brake import AT_ONCE, without_timeout
from worker.ledger.fragments import plan_by_index

# An ended job that may count others than those whom it withdrew. Of one learner its chunks say whether they were
# withdrawn, so that a storm of such jobs is not looked at again.
_FIND = text(f"""
SELECT j.id, j.reinstates, j.accepted FROM withdrawals.jobs j
-- of each job by itself: tables that were never analysed were read from one end to the other
LEFT JOIN LATERAL (SELECT sum((c.counts ->> '{Outcome.WITHDRAWN}')::integer) AS enrolments
    FROM withdrawals.job_chunks c WHERE c.job_id = j.id OFFSET 0) w ON true
WHERE j.id = ANY(:ids) AND (j.reinstates IS NOT NULL OR (j.kind = 'withdraw' AND j.admitted_at IS NOT NULL
    AND (j.accepted > 1 OR j.learners IS DISTINCT FROM least(1, coalesce(w.enrolments, 0)))))
""")
_LOCK_ENDED = text("SELECT id, accepted FROM withdrawals.jobs WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

# The jobs are locked, and no chunk of them is unfinished. Each step can be repeated: it writes what is found now. The
# minute of a job has its row since the admission, also where nobody counted then.
_CORRECT = text(f"""
WITH
-- The learner of a cascade was counted with its letter.
ended AS MATERIALIZED (
    SELECT id, organisation_id, admitted_at, coalesce(learners, 0) AS learners, learner_external_id IS NULL
        AND accepted = (SELECT sum((c.counts ->> '{Outcome.WITHDRAWN}')::bigint) FROM withdrawals.job_chunks c
            WHERE c.job_id = j.id)
        AND NOT EXISTS (SELECT 1 FROM withdrawals.jobs u WHERE u.reinstates = j.id) AS is_whole
    FROM withdrawals.jobs j
    WHERE id = ANY(:ids) AND kind = 'withdraw' AND source <> 'support' AND admitted_at IS NOT NULL
),
-- Of a job that withdrew all that it names, its chunks say whom. What an attempt at a letter withdrew was counted with
-- the attempt. OFFSET 0: enrolments are looked up by their ids, however large the tables are.
withdrawn AS MATERIALIZED (
    SELECT j.*, CASE WHEN j.is_whole THEN (SELECT count(DISTINCT e.learner_id) FROM withdrawals.job_chunks c
        CROSS JOIN LATERAL (SELECT e.learner_id FROM lms.enrolments e
            WHERE e.id = ANY(c.enrolment_ids) AND e.organisation_id = c.organisation_id OFFSET 0) e
        WHERE c.job_id = j.id)
    ELSE (SELECT count(DISTINCT e.learner_id) FROM lms.enrolments e
        WHERE e.organisation_id = j.organisation_id AND e.id = ANY(ARRAY(SELECT o.enrolment_id
            FROM withdrawals.outcomes o WHERE o.job_id = j.id AND o.outcome = '{Outcome.WITHDRAWN}'
                AND o.reinstated_by IS NULL AND o.dead_letter_id IS NULL))) END AS after
    FROM ended j
),
changed AS MATERIALIZED (
    SELECT id, organisation_id, date_trunc('minute', admitted_at) AS minute, learners AS before, after FROM withdrawn
    WHERE learners <> after
),
corrected AS (
    UPDATE withdrawals.jobs j SET learners = c.after FROM changed c WHERE j.id = c.id
),
minutes AS MATERIALIZED (
    SELECT v.organisation_id, v.minute, c.more FROM withdrawals.brake_volume v
    JOIN (SELECT organisation_id, minute, sum(after - before) AS more FROM changed GROUP BY 1, 2) c
        ON c.organisation_id = v.organisation_id AND c.minute = v.minute
    ORDER BY 1, 2 FOR UPDATE OF v
)
UPDATE withdrawals.brake_volume v SET jobs = v.jobs + m.more FROM minutes m
WHERE v.organisation_id = m.organisation_id AND v.minute = m.minute
""")


def correct(connection: Connection, job_ids: Sequence[int]) -> None:
    """Count, of jobs that have ended, the learners whom they withdrew and nobody has taken back.

    In the transaction that ends the jobs, which has locked their rows. The job that an undo has taken back is counted
    again, too.
    """
    found = connection.execute(_FIND, {"ids": list(job_ids)}).all()
    if not found:
        return
    plan_by_index(connection)
    undone_ids = {row.reinstates for row in found if row.reinstates is not None}
    undone = connection.execute(_LOCK_ENDED, {"ids": sorted(undone_ids)}).all() if undone_ids else []
    rows = [*found, *undone]
    is_large = sum(row.accepted for row in rows) > AT_ONCE
    with without_timeout(connection) if is_large else nullcontext():
        connection.execute(_CORRECT, {"ids": [row.id for row in rows]})
