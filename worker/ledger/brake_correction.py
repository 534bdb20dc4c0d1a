"""The brake's count, corrected when a job ends: by then it is known whom the job withdrew, or took back.

A job's row and its minute of the window change together, so that the minutes say at any time what the jobs say. What a
job counts is the learners whom it withdrew, less those whom undos that have ended gave back.

A job of many enrolments ends first and is corrected afterwards, a slice of it in each transaction (`correct_due`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from schemas.catalogue import Outcome
from worker.brake_limits import SeriesOf
from worker.ledger import brake_series
from worker.ledger.brake_series import HAS_LIMIT, HAS_ROWS
from worker.ledger.fragments import UNFINISHED, plan_by_index, sql_list

SLICE = 10_000
"""Enrolments of a job whose learners are counted by one statement, well within its time. Of more, a slice at a time."""

# A job without rows that ends under a limit gets them: it may have counted nobody when it was admitted.
_IS_BY_SERIES = f"({HAS_ROWS} OR {HAS_LIMIT})"

# An ended job that may count others than those whom it withdrew. Of one learner its chunks say whether they were
# withdrawn, so that a storm of such jobs is not looked at again. They do not say from which Series.
# OFFSET 0: what is read of them does not change how.
_FIND = text(f"""
SELECT f.*, {_IS_BY_SERIES.format(job="f.id", organisation="f.organisation_id")} AS is_by_series FROM (
SELECT j.id, j.organisation_id, j.reinstates, j.accepted FROM withdrawals.jobs j
-- of each job by itself: tables that were never analysed were read from one end to the other
LEFT JOIN LATERAL (SELECT sum((c.counts ->> '{Outcome.WITHDRAWN}')::integer) AS enrolments
    FROM withdrawals.job_chunks c WHERE c.job_id = j.id OFFSET 0) w ON true
WHERE j.id = ANY(:ids) AND (j.reinstates IS NOT NULL OR (j.kind = 'withdraw' AND j.admitted_at IS NOT NULL
    AND (j.accepted > 1 OR j.learners IS DISTINCT FROM least(1, coalesce(w.enrolments, 0))
        OR (j.learner_external_id IS NOT NULL AND {HAS_ROWS.format(job="j.id")}))))
OFFSET 0) f ORDER BY f.id
""")

COUNTS = "kind = 'withdraw' AND source <> 'support' AND admitted_at IS NOT NULL"
"""Whether the brake counts a job. The learner of a cascade was counted with its letter."""

IS_LARGE = "(j.kind = 'withdraw' AND j.accepted > :slice)"
"""Whether a job `j` is corrected in slices. An undo is not: its chunks say whom they gave back."""

# An undo gives its learners back when it ends; one that was cancelled, once its last chunk is closed. Those that an
# older version took back have no number, and count until they leave the window.
_GIVEN_BACK = """(SELECT coalesce(sum(c.learners), 0) FROM withdrawals.jobs u CROSS JOIN LATERAL (
        SELECT sum(c.learners_back) AS learners FROM withdrawals.chunks c WHERE c.job_id = u.id OFFSET 0) c
    WHERE u.reinstates = j.id AND u.finished_at IS NOT NULL AND NOT u.correct_due)"""

# From `changed`: jobs with their minute, the learners `before` and `after`. The minute of a job has its row since the
# admission, also where nobody counted then.
_WRITE = """
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
"""

# The jobs are locked, and no chunk of them is unfinished. Each step can be repeated: it writes what is found now.
_CORRECT = text(f"""
WITH
ended AS MATERIALIZED (
    SELECT id, organisation_id, admitted_at, coalesce(learners, 0) AS learners, {_GIVEN_BACK} AS given_back,
        learner_external_id IS NULL
        AND accepted = (SELECT sum((c.counts ->> '{Outcome.WITHDRAWN}')::bigint) FROM withdrawals.job_chunks c
            WHERE c.job_id = j.id) AS is_whole
    FROM withdrawals.jobs j WHERE id = ANY(:ids) AND {COUNTS}
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
                AND o.dead_letter_id IS NULL))) END AS learners_withdrawn
    FROM ended j
),
changed AS MATERIALIZED (
    SELECT * FROM (SELECT id, organisation_id, date_trunc('minute', admitted_at) AS minute, learners AS before,
        greatest(0, learners_withdrawn - given_back) AS after FROM withdrawn) w WHERE before <> after
),
{_WRITE}""")

_LOCK_UNDONE = text(f"""
SELECT id, {COUNTS} AND NOT correct_due AS counts, {HAS_ROWS.format(job="jobs.id")} AS is_by_series
FROM withdrawals.jobs WHERE id = ANY(:ids)
ORDER BY id FOR NO KEY UPDATE
""")
_GIVE_BACK = text(f"""
WITH given AS MATERIALIZED (
    SELECT u.reinstates AS id, sum(c.learners) AS learners FROM withdrawals.jobs u CROSS JOIN LATERAL (
        SELECT sum(c.learners_back) AS learners FROM withdrawals.chunks c WHERE c.job_id = u.id OFFSET 0) c
    WHERE u.id = ANY(:undos) AND u.reinstates = ANY(:undone) GROUP BY 1
), changed AS MATERIALIZED (
    SELECT j.id, j.organisation_id, date_trunc('minute', j.admitted_at) AS minute, coalesce(j.learners, 0) AS before,
        greatest(0, coalesce(j.learners, 0) - g.learners) AS after
    FROM given g JOIN withdrawals.jobs j ON j.id = g.id WHERE g.learners > 0
),
{_WRITE}""")


def correct(connection: Connection, job_ids: Sequence[int]) -> None:
    """Count, of jobs that have ended, the learners whom they withdrew; and give back those whom undos took back.

    In the transaction that ends the jobs, which has locked their rows. Large jobs are not among them.
    """
    found = connection.execute(_FIND, {"ids": list(job_ids)}).all()
    if not found:
        return
    plan_by_index(connection)
    own = [(row.id, row.accepted) for row in found if row.reinstates is None]
    is_by_series = {row.id for row in found if row.is_by_series}
    for ids in _in_parts(own):
        connection.execute(_CORRECT, {"ids": ids})
        if limited := [job_id for job_id in ids if job_id in is_by_series]:
            brake_series.correct(connection, limited)
    # What is corrected here has been given back what these undos took back.
    undone = {row.reinstates for row in found if row.reinstates is not None} - {job_id for job_id, _ in own}
    if undone:
        locked = connection.execute(_LOCK_UNDONE, {"ids": sorted(undone)}).all()
        counting = [row.id for row in locked if row.counts]  # others are still to be corrected, and this undo with them
        undos = [row.id for row in found if row.reinstates in counting]
        if undos:
            connection.execute(_GIVE_BACK, {"undos": undos, "undone": counting})
            if any(row.counts and row.is_by_series for row in locked):
                brake_series.give_back(connection, undos)


def _in_parts(jobs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Ids of jobs, in parts of no more than `SLICE` enrolments each."""
    parts: list[list[int]] = []
    room = 0
    for job_id, accepted in jobs:
        if accepted > room:
            parts.append([])
            room = SLICE
        parts[-1].append(job_id)
        room -= accepted
    return parts


_FIND_LARGE = text(f"""
SELECT j.id FROM withdrawals.jobs j WHERE j.correct_due AND j.finished_at IS NOT NULL AND {IS_LARGE}
    AND NOT EXISTS (SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id
        AND c.state IN ({sql_list(UNFINISHED)}) OFFSET 0)
    AND j.id <> ALL(CAST(:without AS bigint[]))
ORDER BY j.id LIMIT 1
""")
# A learner is counted with the first enrolment that the job withdrew of them, so nobody has to remember whom an earlier
# slice has counted. OFFSET 0: looked up by the learner, however large the job is.
_SLICE = text(f"""
WITH taken AS MATERIALIZED (
    SELECT s.enrolment_id, s.organisation_id, e.learner_id, e.series_id
    FROM (SELECT o.enrolment_id, o.organisation_id FROM withdrawals.outcomes o
        WHERE o.job_id = :job_id AND o.enrolment_id > :after AND o.outcome = '{Outcome.WITHDRAWN}'
            AND o.dead_letter_id IS NULL
        ORDER BY o.enrolment_id LIMIT :slice) s
    LEFT JOIN LATERAL (SELECT x.learner_id, x.series_id FROM lms.enrolments x
        WHERE x.id = s.enrolment_id AND x.organisation_id = s.organisation_id OFFSET 0) e ON true
)
SELECT max(t.enrolment_id) AS last, count(t.learner_id) FILTER (WHERE NOT EXISTS (
        SELECT FROM (SELECT x.id FROM lms.enrolments x WHERE x.learner_id = t.learner_id
            AND x.organisation_id = t.organisation_id AND x.id < t.enrolment_id OFFSET 0) x
        JOIN withdrawals.outcomes b ON b.job_id = :job_id AND b.enrolment_id = x.id
            AND b.outcome = '{Outcome.WITHDRAWN}' AND b.dead_letter_id IS NULL)) AS learners,
    (SELECT array_agg(n ORDER BY series_id) FROM (SELECT ARRAY[series_id, count(*)] AS n, series_id
        FROM taken WHERE series_id IS NOT NULL GROUP BY series_id) c) AS series
FROM taken t
""")
_LOCK_LARGE = text(f"""
UPDATE withdrawals.jobs SET correct_due = false WHERE id = :job_id AND correct_due
RETURNING {_IS_BY_SERIES.format(job="jobs.id", organisation="jobs.organisation_id")} AS is_by_series
""")
_CORRECT_LARGE = text(f"""
WITH changed AS MATERIALIZED (
    SELECT * FROM (SELECT id, organisation_id, date_trunc('minute', admitted_at) AS minute,
        coalesce(learners, 0) AS before, greatest(0, :learners - {_GIVEN_BACK}) AS after
        FROM withdrawals.jobs j WHERE id = :job_id AND {COUNTS}) j WHERE before <> after
),
{_WRITE}""")


def find_large(connection: Connection, *, without: Sequence[int] = ()) -> int | None:
    """The first job of more than `SLICE` enrolments that has ended and is to be corrected, and is none of `without`."""
    plan_by_index(connection)
    found: int | None = connection.scalar(_FIND_LARGE, {"slice": SLICE, "without": list(without)})
    return found


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of what a job withdrew; `last`: the last enrolment of the part, None at the end."""

    last: int | None
    learners: int
    """Of whom no part before has an enrolment."""
    series: dict[int, int]
    """Enrolments of each Series."""


def read_slice(connection: Connection, job_id: int, *, after: int) -> Slice:
    """The next `SLICE` enrolments that an ended job withdrew, behind the one with this id.

    What it withdrew does not change any more, so the slices can be read one after the other.
    """
    plan_by_index(connection)
    row = connection.execute(_SLICE, {"job_id": job_id, "after": after, "slice": SLICE}).one()
    return Slice(row.last, row.learners, dict(row.series or ()))


def correct_large(connection: Connection, job_id: int, learners: int, series: SeriesOf) -> bool:
    """Write how many learners a job withdrew, less those given back; whether it was still to be corrected.

    `series`: those of each Series.
    """
    is_by_series: bool | None = connection.scalar(_LOCK_LARGE, {"job_id": job_id})
    if is_by_series is None:
        return False
    connection.execute(_CORRECT_LARGE, {"job_id": job_id, "learners": learners})
    if is_by_series:
        brake_series.correct_large(connection, job_id, series)
    return True
