"""What the attempts of a run did to enrolments: read of one run, once it has ended."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

MOST = 100_000
"""Letters of a run up to which its attempts are looked at."""

# The chunks of a letter's attempt, and the jobs of its cascade, are written in the transaction of the run's step, so
# they have its time. Of a letter that was tried several times, the run's attempt is the last one before it was driven.
# An attempt counts in its chunk what it changed. A letter that an attempt resolved has its chunk until the details of
# its job are pruned. Rows are looked up by their keys: a plan of a join could read all chunks there are.
_COUNT = text("""
WITH attempts AS MATERIALIZED (
    SELECT l.dead_letter_id, l.result, a.at
    FROM withdrawals.run_letters l CROSS JOIN LATERAL (
        SELECT max(c.created_at) AS at FROM withdrawals.chunks c
        WHERE c.redrives = l.dead_letter_id AND c.created_at <= l.driven_at) a
    WHERE l.run_id = :run_id AND l.driven_at IS NOT NULL
), changes AS (
    SELECT c.counts FROM attempts a CROSS JOIN LATERAL (SELECT c.counts FROM withdrawals.chunks c
        WHERE c.redrives = a.dead_letter_id AND c.created_at = a.at OFFSET 0) c
    UNION ALL
    SELECT c.counts FROM withdrawals.runs r
    CROSS JOIN (SELECT DISTINCT at FROM attempts WHERE at IS NOT NULL) a
    CROSS JOIN LATERAL (SELECT j.id FROM withdrawals.jobs j WHERE j.organisation_id = r.organisation_id
        AND j.admitted_at = a.at AND j.source = 'support' AND j.requested_by = r.actor OFFSET 0) j
    CROSS JOIN LATERAL (SELECT c.counts FROM withdrawals.chunks c
        WHERE c.job_id = j.id AND c.redrives IS NULL OFFSET 0) c
    WHERE r.id = :run_id AND r.act = 'cascade'
)
SELECT coalesce(sum((counts ->> 'withdrawn')::bigint), 0) AS withdrawn,
    coalesce(sum((counts ->> 'reinstated')::bigint), 0) AS reinstated,
    EXISTS (SELECT FROM attempts WHERE at IS NULL AND result = 'resolved') AS is_pruned
FROM changes
""")


@dataclass(frozen=True, slots=True)
class RunResults:
    """How many enrolments the attempts of a run withdrew and reinstated."""

    withdrawn: int
    reinstated: int


def count(connection: Connection, run_id: int) -> RunResults | None:
    """What the attempts of a run did, the jobs of a cascade included; None: their details are not kept any more."""
    row = connection.execute(_COUNT, {"run_id": run_id}).one()
    return None if row.is_pruned else RunResults(int(row.withdrawn), int(row.reinstated))
