"""The brake's count, corrected when a job ends: by then it is known whom the job withdrew.

A job's row and its minute of the window change together, so that the minutes say at any time what the jobs say.
"""

from collections.abc import Sequence
from contextlib import nullcontext

from sqlalchemy import Connection, text

from schemas.catalogue import Outcome
from worker.ledger.brake import AT_ONCE, without_timeout

_LOCK_ENDED = text("SELECT id FROM withdrawals.jobs WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

# The jobs are locked, and no chunk of them is unfinished. Each step can be repeated: it writes what is found now.
_CORRECT = text(f"""
WITH
-- The learner of a cascade was counted with its letter.
ended AS MATERIALIZED (
    SELECT id, organisation_id, admitted_at, coalesce(learners, 0) AS learners, finished_at FROM withdrawals.jobs
    WHERE id = ANY(:ids) AND kind = 'withdraw' AND source <> 'support' AND admitted_at IS NOT NULL
),
-- What an attempt at a letter withdrew was counted with the attempt.
withdrawn AS MATERIALIZED (
    SELECT o.job_id, count(DISTINCT e.learner_id) AS learners FROM withdrawals.outcomes o
    JOIN lms.enrolments e ON e.id = o.enrolment_id AND e.organisation_id = o.organisation_id
    WHERE o.job_id = ANY(ARRAY(SELECT id FROM ended)) AND o.outcome = '{Outcome.WITHDRAWN}'
        AND o.reinstated_by IS NULL AND o.dead_letter_id IS NULL
    GROUP BY 1
),
changed AS MATERIALIZED (
    SELECT j.id, j.organisation_id, date_trunc('minute', j.admitted_at) AS minute, j.learners AS before,
        coalesce(w.learners, 0) AS after
    FROM ended j LEFT JOIN withdrawn w ON w.job_id = j.id WHERE j.learners <> coalesce(w.learners, 0)
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


def correct(connection: Connection, job_ids: Sequence[int], *, also: Sequence[int] = (), accepted: int) -> None:
    """Count, of jobs that have ended, the learners whom they withdrew and nobody has taken back.

    In the transaction that ends the jobs, which has locked their rows. `also`: further jobs that have ended, which are
    locked here. `accepted`: so many enrolments they are about at the most.
    """
    if also:
        connection.execute(_LOCK_ENDED, {"ids": sorted(also)})
    with without_timeout(connection) if accepted > AT_ONCE else nullcontext():
        connection.execute(_CORRECT, {"ids": [*job_ids, *also]})
