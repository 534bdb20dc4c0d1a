"""The books: the conservation formula and every invariant, each a statement that finds the rows that break it.

The formula, for each job and over all of them: accepted = outcomes + ids in unfinished chunks + ids in chunks closed
whole. Every rule holds at any time, also while work is running, because what belongs together commits together.
`job_chunks` are the chunks that count for their job. `letter_chunks` are attempts at dead letters, and count nothing.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from worker.ledger.fragments import CLOSED_WHOLE, LIVE, UNFINISHED, sql_list
from worker.rules import NEEDS_SUPPORT, WITHDRAWN

_LISTS = {
    "unfinished": sql_list(UNFINISHED),
    "closed_whole": sql_list(CLOSED_WHOLE),
    "needs_support": sql_list(NEEDS_SUPPORT),
    "live": sql_list(LIVE),
    "withdrawn": WITHDRAWN.value,
}
"""What `{name}` stands for in the statements."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule and one row that breaks it."""

    rule: str
    subject: str


CHECKS = {
    # Both sides for each job. A person job counts the chunks it has now: 1 until it is applied, then what was found.
    # A split parent counts nothing, and the ids of a chunk that is done are counted by their outcomes.
    "accepted = outcomes + unfinished + closed whole, for every job": """
        SELECT 'job ' || j.id || ': accepted ' || sums.accepted || ', accounted for ' || sums.accounted
        FROM withdrawals.jobs j JOIN LATERAL (
            SELECT CASE WHEN j.learner_external_id IS NULL THEN j.accepted ELSE coalesce(c.own, 0) END AS accepted,
                coalesce(c.open_or_whole, 0)
                + (SELECT count(*) FROM withdrawals.outcomes o WHERE o.job_id = j.id) AS accounted
            FROM (SELECT sum(size) FILTER (WHERE state <> 'split') AS own,
                    sum(size) FILTER (WHERE state IN ({unfinished}, {closed_whole})) AS open_or_whole
                FROM withdrawals.job_chunks WHERE job_id = j.id) c) sums ON true
        WHERE sums.accepted <> sums.accounted""",
    # `a`: what all chunks of the job say, letter chunks included, which hold only changes. `b`: the outcomes, and the
    # ids of chunks closed whole, whose state is the outcome of each of their ids.
    "the counts of a job's chunks are its outcomes, counted": """
        SELECT 'job ' || coalesce(a.job_id, b.job_id) || ': ' || coalesce(a.outcome, b.outcome) || ' is '
            || coalesce(b.n, 0) || ', its chunks say ' || coalesce(a.n, 0)
        FROM (SELECT c.job_id, key AS outcome, sum(value::integer) AS n
            FROM withdrawals.chunks c, jsonb_each_text(c.counts) GROUP BY 1, 2 HAVING sum(value::integer) <> 0) a
        FULL JOIN (SELECT job_id, outcome, sum(n) AS n FROM (
                SELECT job_id, outcome, count(*) AS n FROM withdrawals.outcomes GROUP BY 1, 2
                UNION ALL SELECT job_id, state, sum(size) FROM withdrawals.job_chunks
                    WHERE state IN ({closed_whole}) GROUP BY 1, 2) x
            GROUP BY 1, 2) b ON b.job_id = a.job_id AND b.outcome = a.outcome
        WHERE a.n IS DISTINCT FROM b.n""",
    # Only jobs that still have such a chunk are looked at: the outcomes of all others cannot overlap with one.
    "an id has an outcome or lies in one chunk, never both": """
        SELECT 'job ' || job_id || ', enrolment ' || enrolment_id FROM (
            SELECT job_id, unnest(enrolment_ids) AS enrolment_id FROM withdrawals.job_chunks
                WHERE state IN ({unfinished}, {closed_whole})
            UNION ALL SELECT o.job_id, o.enrolment_id FROM withdrawals.outcomes o JOIN withdrawals.jobs j
                ON j.id = o.job_id WHERE EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id
                    AND c.state IN ({unfinished}, {closed_whole}))) ids
        GROUP BY job_id, enrolment_id HAVING count(*) > 1""",
    "what needs support refers to a letter of its own organisation and subject": """
        SELECT 'job ' || o.job_id || ', enrolment ' || o.enrolment_id FROM withdrawals.outcomes o
        LEFT JOIN withdrawals.dead_letters d ON d.id = o.dead_letter_id
        WHERE o.outcome IN ({needs_support}) AND (d.id IS NULL OR d.organisation_id <> o.organisation_id
            OR d.enrolment_id IS DISTINCT FROM o.enrolment_id)""",
    # An invalid event has neither outcome nor chunk: nothing was made of it.
    "a live letter has something that needs support": """
        SELECT 'dead letter ' || d.id FROM withdrawals.dead_letters d
        WHERE d.state IN ({live}) AND d.code <> 'invalid_event'
            AND NOT EXISTS (SELECT 1 FROM withdrawals.outcomes o
                WHERE o.dead_letter_id = d.id AND o.outcome IN ({needs_support}))
            AND NOT EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.dead_letter_id = d.id)""",
    # `keep` closes a letter by a person's decision, so it may leave an outcome as it is.
    "a letter closed by evidence has nothing left that needs support": """
        SELECT 'dead letter ' || d.id FROM withdrawals.dead_letters d
        WHERE d.state = 'resolved' AND d.remedy IN ('override', 'redrive', 'cascade') AND (
            EXISTS (SELECT 1 FROM withdrawals.outcomes o
                WHERE o.dead_letter_id = d.id AND o.outcome IN ({needs_support}))
            OR EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.dead_letter_id = d.id))""",
    "a redriven letter has an attempt in flight": """
        SELECT 'dead letter ' || d.id FROM withdrawals.dead_letters d WHERE d.state = 'redriven'
            AND NOT EXISTS (SELECT 1 FROM withdrawals.letter_chunks c
                WHERE c.letter_id = d.id AND c.state IN ('ready', 'claimed'))""",
    "every withdrawal of the service has exactly one outcome `withdrawn` that is not reinstated": """
        SELECT 'enrolment ' || enrolment_id || ': ' || count(*) FROM withdrawals.outcomes
        WHERE outcome = 'withdrawn' AND reinstated_by IS NULL GROUP BY enrolment_id HAVING count(*) > 1""",
    # `o`: outcomes that name the job that reinstated them. `r`: what those jobs say they reinstated.
    "what was taken back names the job that reinstated it, and that job names it": """
        SELECT 'job ' || coalesce(o.job_id, r.reinstates) || ', enrolment '
            || coalesce(o.enrolment_id, r.enrolment_id)
        FROM (SELECT job_id, enrolment_id, reinstated_by FROM withdrawals.outcomes
            WHERE reinstated_by IS NOT NULL) o
        FULL JOIN (SELECT x.enrolment_id, j.id, j.reinstates FROM withdrawals.jobs j
            JOIN withdrawals.outcomes x ON x.job_id = j.id
            WHERE j.reinstates IS NOT NULL AND x.outcome = 'reinstated') r
        ON r.id = o.reinstated_by AND r.reinstates = o.job_id AND r.enrolment_id = o.enrolment_id
        WHERE o.job_id IS NULL OR r.id IS NULL""",
    # An enrolment whose status the platform has changed since is not compared: its new status is the platform's.
    "what an outcome `withdrawn` wrote is what the enrolment shows, until it is reinstated": """
        SELECT 'enrolment ' || e.id FROM withdrawals.outcomes o JOIN withdrawals.jobs j ON j.id = o.job_id
        JOIN lms.enrolments e ON e.id = o.enrolment_id
        WHERE o.outcome = 'withdrawn' AND o.reinstated_by IS NULL AND e.status = '{withdrawn}'
            AND (e.withdrawal_reason, e.withdrawn_by,
            e.withdrawn_at) IS DISTINCT FROM (j.reason, j.requested_by, o.decided_at)""",
    "what waits belongs to a job that waits, and what is due to one that was admitted": """
        SELECT 'chunk ' || c.id FROM withdrawals.job_chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
        WHERE c.state = 'waiting' AND j.state = 'queued'
            OR c.state IN ('ready', 'claimed') AND j.state IN ('scheduled', 'held')""",
    # A cancelled job is not looked at: a chunk that was running when the job was cancelled may still commit.
    "a finished job has no unfinished chunk, except what a cancel left running": """
        SELECT 'job ' || j.id FROM withdrawals.jobs j
        WHERE j.state IN ('completed', 'completed_with_exceptions', 'superseded') AND EXISTS (
            SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id AND c.state IN ({unfinished}))""",
}
"""The rules by their names, which `withdrawals check` prints."""


def violations(connection: Connection, *, most: int = 20) -> list[Violation]:
    """What breaks the books, at most `most` rows for each rule. The caller's transaction decides on the snapshot."""
    found = []
    for rule, statement in CHECKS.items():
        for subject in connection.scalars(text(f"{_fill(statement)}\nLIMIT :most"), {"most": most}):
            found.append(Violation(rule, subject))
    return found


# The four terms of the formula over all jobs. The chunks of person jobs stand for what those jobs accepted.
_TOTALS = """
SELECT (SELECT count(*) FROM withdrawals.jobs) AS jobs,
    (SELECT coalesce(sum(accepted) FILTER (WHERE learner_external_id IS NULL), 0) FROM withdrawals.jobs)
    + (SELECT coalesce(sum(size), 0) FROM withdrawals.job_chunks
        WHERE learner_external_id IS NOT NULL AND state <> 'split') AS accepted,
    (SELECT count(*) FROM withdrawals.outcomes) AS outcomes,
    (SELECT coalesce(sum(size), 0) FROM withdrawals.job_chunks WHERE state IN ({unfinished})) AS unfinished,
    (SELECT coalesce(sum(size), 0) FROM withdrawals.job_chunks WHERE state IN ({closed_whole})) AS closed_whole
"""


def totals(connection: Connection) -> dict[str, int]:
    """Both sides of the conservation formula over all jobs."""
    row = connection.execute(text(_fill(_TOTALS))).mappings().one()
    return {name: int(value) for name, value in row.items()}


def _fill(statement: str) -> str:
    for name, value in _LISTS.items():
        statement = statement.replace(f"{{{name}}}", value)
    return statement
