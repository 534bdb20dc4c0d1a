"""What the brake counts of each Series, where the policies of an organisation limit them (decision record 0055).

A job's rows are written when it is admitted or held under such a limit, whatever it was asked for by: its learners of
each Series by the rules. From its end on, if there is a limit then or there are rows, they are those whom it withdrew
and nobody has taken back. Of a job without rows no more is known than what it counts itself if it was asked for by its
Series.

A learner has no two active enrolments in a Series that no pathway owns, so enrolments are counted, and are learners.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection, text

from schemas.catalogue import Outcome
from worker.brake_limits import SeriesOf
from worker.ledger.fragments import WOULD_WITHDRAW

HAS_LIMIT = """EXISTS (SELECT FROM withdrawals.organisation_settings s
    WHERE s.organisation_id = {organisation} AND s.policies @> '[{{"act": "withdraw_series"}}]')"""
"""Whether an organisation has a limit for its Series."""
HAS_ROWS = "EXISTS (SELECT FROM withdrawals.brake_series b WHERE b.job_id = {job})"
"""Whether a job is counted by Series."""

_ENROLMENTS = "SELECT e.id, e.organisation_id, e.learner_id, e.series_id, e.status, e.pathway_id FROM lms.enrolments e"
_OF_JOB = text(f"""
SELECT e.series_id, count(*) AS learners FROM withdrawals.jobs j
CROSS JOIN LATERAL (
    SELECT e.* FROM withdrawals.job_chunks c CROSS JOIN LATERAL (
        {_ENROLMENTS} WHERE e.id = ANY(c.enrolment_ids) AND e.organisation_id = c.organisation_id OFFSET 0) e
    WHERE c.job_id = j.id
    UNION ALL
    SELECT e.* FROM lms.learners l CROSS JOIN LATERAL (
        {_ENROLMENTS} WHERE e.learner_id = l.id AND e.organisation_id = l.organisation_id OFFSET 0) e
    WHERE l.organisation_id = j.organisation_id AND l.external_id = j.learner_external_id) e
WHERE j.id = :job_id AND j.kind = 'withdraw' AND {WOULD_WITHDRAW.format(organisation="j.organisation_id")}
GROUP BY 1
""")


def of_job(connection: Connection, job_id: int) -> SeriesOf:
    """The learners of each Series whom the rules would withdraw by a job now."""
    return {row.series_id: row.learners for row in connection.execute(_OF_JOB, {"job_id": job_id})}


_OF_REQUESTS = text(f"""
SELECT a.n, e.series_id, count(*) AS learners
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS a(n integer, organisation_id bigint, enrolment_ids bigint[],
    learner_external_id text)
CROSS JOIN LATERAL (
    ({_ENROLMENTS} WHERE e.id = ANY(a.enrolment_ids) AND e.organisation_id = a.organisation_id OFFSET 0)
    UNION ALL
    SELECT e.* FROM lms.learners l CROSS JOIN LATERAL (
        {_ENROLMENTS} WHERE e.learner_id = l.id AND e.organisation_id = l.organisation_id OFFSET 0) e
    WHERE l.organisation_id = a.organisation_id AND l.external_id = a.learner_external_id) e
WHERE {WOULD_WITHDRAW.format(organisation="a.organisation_id")}
GROUP BY 1, 2
""")


def of_requests(
    connection: Connection, asked: Sequence[tuple[int, Sequence[int] | None, str | None]]
) -> list[SeriesOf]:
    """As `of_job`, of jobs that do not exist yet: each with its organisation, and its ids or the learner it names."""
    rows = [
        {"n": n, "organisation_id": organisation_id, "enrolment_ids": ids, "learner_external_id": person}
        for n, (organisation_id, ids, person) in enumerate(asked)
    ]
    found: list[dict[int, int]] = [{} for _ in asked]
    for row in connection.execute(_OF_REQUESTS, {"rows": json.dumps(rows)}):
        found[row.n][row.series_id] = row.learners
    return list(found)


_GIVEN = """unnest(CAST(:jobs AS bigint[]), CAST(:series AS bigint[]), CAST(:organisations AS bigint[]),
    CAST(:learners AS bigint[])) AS g(job_id, series_id, organisation_id, learners)"""
_KEEP = text(f"""
INSERT INTO withdrawals.brake_series (job_id, series_id, organisation_id, learners) SELECT * FROM {_GIVEN}
""")


def keep(connection: Connection, organisations: Mapping[int, int], counted: Mapping[int, SeriesOf]) -> None:
    """Write what new jobs count of each Series. `organisations`: of the jobs, by id."""
    rows = [
        (job_id, series_id, organisations[job_id], learners)
        for job_id, series_of in counted.items()
        for series_id, learners in series_of.items()
    ]
    if rows:
        columns = map(list, zip(*rows, strict=True))
        names = ("jobs", "series", "organisations", "learners")
        connection.execute(_KEEP, dict(zip(names, columns, strict=True)))


# A row that is not counted again stays, with 0: the job goes on being counted by Series.
_COUNT_AGAIN = text(f"""
WITH given AS MATERIALIZED (SELECT * FROM {_GIVEN}),
none AS (
    UPDATE withdrawals.brake_series b SET learners = 0 WHERE b.job_id = :job_id AND b.learners > 0
        AND NOT EXISTS (SELECT FROM given g WHERE g.series_id = b.series_id)
)
INSERT INTO withdrawals.brake_series AS known (job_id, series_id, organisation_id, learners) SELECT * FROM given
ON CONFLICT (job_id, series_id) DO UPDATE SET learners = excluded.learners WHERE known.learners <> excluded.learners
""")


def count_again(connection: Connection, organisation_id: int, job_id: int, series_of: SeriesOf) -> None:
    """Write what a job counts of each Series, in place of what it counted when it was held before.

    The caller has locked the organisation's settings row.
    """
    many = len(series_of)
    values = {"jobs": [job_id] * many, "series": list(series_of.keys()), "learners": list(series_of.values())}
    connection.execute(_COUNT_AGAIN, {**values, "organisations": [organisation_id] * many, "job_id": job_id})


_USED = text("""
SELECT u.series_id, sum(u.learners) AS learners FROM (
    SELECT b.series_id, b.learners FROM withdrawals.jobs j JOIN withdrawals.brake_series b ON b.job_id = j.id
    WHERE j.organisation_id = :organisation_id AND j.admitted_at > now() - CAST(:window AS interval)
        AND j.state <> 'superseded' AND b.series_id = ANY(:series)
    UNION ALL
    SELECT j.series_id, j.learners FROM withdrawals.jobs j
    WHERE j.organisation_id = :organisation_id AND j.admitted_at > now() - CAST(:window AS interval)
        AND j.state <> 'superseded' AND j.series_id = ANY(:series)
        AND NOT EXISTS (SELECT FROM withdrawals.brake_series b WHERE b.job_id = j.id)) u
GROUP BY 1
""")


def used(connection: Connection, organisation_id: int, hours: int, series: Collection[int]) -> dict[int, int]:
    """Learners of these Series of the jobs that were admitted in the window."""
    values = {"organisation_id": organisation_id, "window": timedelta(hours=hours), "series": list(series)}
    return {row.series_id: int(row.learners or 0) for row in connection.execute(_USED, values)}


_CODE = text("SELECT code FROM lms.series WHERE id = :series_id AND organisation_id = :organisation_id")


def find_code(connection: Connection, organisation_id: int, series_id: int) -> str:
    """The code of a Series, or its id when it has gone."""
    found = connection.scalar(_CODE, {"series_id": series_id, "organisation_id": organisation_id})
    return str(found) if found else str(series_id)


# What an attempt at a letter withdrew was counted with the attempt, and is not given back here. OFFSET 0: rows are
# looked up by their ids, however large the tables and the job that is taken back are.
_GIVEN_BACK = f"""
SELECT u.reinstates AS job_id, u.organisation_id, e.series_id, count(*) AS learners
FROM withdrawals.jobs u
CROSS JOIN LATERAL (SELECT e.series_id FROM withdrawals.outcomes r
    CROSS JOIN LATERAL (SELECT e.series_id FROM lms.enrolments e
        WHERE e.id = r.enrolment_id AND e.organisation_id = r.organisation_id OFFSET 0) e
    WHERE r.job_id = u.id AND r.outcome = '{Outcome.REINSTATED}'
        AND EXISTS (SELECT FROM withdrawals.outcomes o WHERE o.job_id = u.reinstates
            AND o.enrolment_id = r.enrolment_id AND o.dead_letter_id IS NULL OFFSET 0) OFFSET 0) e
WHERE {{undos}}
GROUP BY 1, 2, 3"""
_CORRECT = """
WITH withdrawn AS MATERIALIZED ({withdrawn}),
given AS MATERIALIZED ({given}),
counted AS MATERIALIZED (
    SELECT w.job_id, w.organisation_id, w.series_id, greatest(0, w.learners - coalesce(g.learners, 0)) AS learners
    FROM withdrawn w LEFT JOIN given g ON g.job_id = w.job_id AND g.series_id = w.series_id
),
none AS (
    UPDATE withdrawals.brake_series b SET learners = 0
    WHERE b.job_id = ANY(:ids) AND b.learners > 0
        AND NOT EXISTS (SELECT FROM withdrawn w WHERE w.job_id = b.job_id AND w.series_id = b.series_id)
)
INSERT INTO withdrawals.brake_series AS known (job_id, series_id, organisation_id, learners)
SELECT job_id, series_id, organisation_id, learners FROM counted
ON CONFLICT (job_id, series_id) DO UPDATE SET learners = excluded.learners WHERE known.learners <> excluded.learners
"""
# Of an undo that was cancelled, once its last chunk is closed.
_OF_UNDOS = _GIVEN_BACK.format(undos="u.reinstates = ANY(:ids) AND u.finished_at IS NOT NULL AND NOT u.correct_due")
_CORRECT_SMALL = text(
    _CORRECT.format(
        withdrawn=f"""
    SELECT j.id AS job_id, j.organisation_id, e.series_id, count(*) AS learners FROM withdrawals.jobs j
    CROSS JOIN LATERAL (SELECT e.series_id FROM withdrawals.outcomes o
        CROSS JOIN LATERAL (SELECT e.series_id FROM lms.enrolments e
            WHERE e.id = o.enrolment_id AND e.organisation_id = o.organisation_id OFFSET 0) e
        WHERE o.job_id = j.id AND o.outcome = '{Outcome.WITHDRAWN}' AND o.dead_letter_id IS NULL OFFSET 0) e
    WHERE j.id = ANY(:ids) GROUP BY 1, 2, 3""",
        given=_OF_UNDOS,
    )
)


def correct(connection: Connection, job_ids: Sequence[int]) -> None:
    """Count, of ended jobs, whom they withdrew of each Series and nobody has taken back. None of them is large."""
    connection.execute(_CORRECT_SMALL, {"ids": list(job_ids)})


_CORRECT_LARGE = text(
    _CORRECT.format(
        withdrawn="""
    SELECT j.id AS job_id, j.organisation_id, w.series_id, w.learners FROM withdrawals.jobs j
    CROSS JOIN unnest(CAST(:series AS bigint[]), CAST(:learners AS bigint[])) AS w(series_id, learners)
    WHERE j.id = ANY(:ids)""",
        given=_OF_UNDOS,
    )
)


def correct_large(connection: Connection, job_id: int, withdrawn: SeriesOf) -> None:
    """As `correct`, of one job whose slices were counted. What is read is as much as was taken back."""
    columns = {"series": list(withdrawn.keys()), "learners": list(withdrawn.values())}
    connection.execute(_CORRECT_LARGE, {"ids": [job_id], **columns})


_GIVE_BACK = text(f"""
WITH given AS MATERIALIZED ({_GIVEN_BACK.format(undos="u.id = ANY(:undos)")})
-- never inserts: the way to find each row by its key, whatever the planner knows of the table
INSERT INTO withdrawals.brake_series AS known (job_id, series_id, organisation_id, learners)
SELECT job_id, series_id, organisation_id, learners FROM given g
WHERE EXISTS (SELECT FROM withdrawals.brake_series b
    WHERE b.job_id = g.job_id AND b.series_id = g.series_id AND b.organisation_id = g.organisation_id OFFSET 0)
ON CONFLICT (job_id, series_id) DO UPDATE SET learners = greatest(0, known.learners - excluded.learners)
""")


def give_back(connection: Connection, undos: Sequence[int]) -> None:
    """Take from the jobs that these undos, which end in this transaction, took back what they gave back."""
    connection.execute(_GIVE_BACK, {"undos": list(undos)})


_DELETE_OLD = text("""
DELETE FROM withdrawals.brake_series WHERE (job_id, series_id) IN (
    SELECT b.job_id, b.series_id FROM withdrawals.brake_series b JOIN withdrawals.jobs j ON j.id = b.job_id
    WHERE j.finished_at < now() - interval '721 hours' ORDER BY b.job_id LIMIT :most)
""")


def delete_old(connection: Connection, *, most: int = 5000) -> int:
    """Delete rows of jobs that have left the longest window (720 hours), up to `most`; how many."""
    return connection.execute(_DELETE_OLD, {"most": most}).rowcount
