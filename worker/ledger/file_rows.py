"""Rows of a file that name an enrolment by learner and Series: looked up in sets, in tables of this transaction."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from worker.database import driver
from worker.ledger.fragments import sql_list
from worker.rules import ENDED, WITHDRAWN

_ASKED = text("""
CREATE TEMP TABLE asked (line integer NOT NULL, enrolment_id bigint, external_id text, email text, learner text,
    series_code text, pathway text) ON COMMIT DROP
""")
_ANALYZE = text("ANALYZE pg_temp.asked")  # nothing else does, and the planner would take it for a few rows


def stage_asked(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Stream rows into a temporary table: line, enrolment id, external id, e-mail, learner, Series code, pathway."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(_ASKED)
    with driver(connection).cursor().copy("COPY pg_temp.asked FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    connection.execute(_ANALYZE)


# What the jobs of a batch have taken, so that a row that is sent again does not find what came after: somebody who was
# withdrawn and is enrolled in the same Series again is not withdrawn a second time.
_TAKEN = text("""
CREATE TEMP TABLE taken ON COMMIT DROP AS
SELECT e.id AS enrolment_id, e.learner_id, e.series_id, e.pathway_id
FROM (SELECT j.id FROM withdrawals.jobs j WHERE j.id = :batch AND j.organisation_id = :organisation_id
    UNION SELECT b.job_id FROM withdrawals.batch_jobs b
    WHERE b.first_job_id = :batch AND b.organisation_id = :organisation_id) j
JOIN withdrawals.file_lines f ON f.job_id = j.id
CROSS JOIN LATERAL unnest(f.enrolment_ids) AS i (id)
LEFT JOIN lms.enrolments e ON e.id = i.id AND e.organisation_id = :organisation_id
WHERE e.id IS NOT NULL
""")

# OFFSET 0: looked up by its key for each row. Right after a first load the planner knows nothing of the learners, and a
# join would read all of them for each row.
_LEARNER = "SELECT id, email FROM lms.learners WHERE organisation_id = :organisation_id AND {key} OFFSET 0"

# A learner may stand in a Series by several pathways, each an enrolment. Those that are neither ended nor withdrawn are
# meant; without any of them the newest, whose outcome says what it is (rule 9). `+ 0`: found by the learner, since a
# Series has a million enrolments.
_FOUND = text(f"""
CREATE TEMP TABLE found ON COMMIT DROP AS
WITH wanted AS (SELECT * FROM pg_temp.asked WHERE enrolment_id IS NULL),
named AS (
    SELECT w.line, l.id, l.email FROM wanted w
    CROSS JOIN LATERAL ({_LEARNER.format(key="external_id = w.external_id")}) l
    UNION SELECT w.line, l.id, l.email FROM wanted w
    CROSS JOIN LATERAL ({_LEARNER.format(key="lower(email) = lower(w.email)")}) l WHERE w.external_id IS NULL
    UNION SELECT w.line, l.id, l.email FROM wanted w
    CROSS JOIN LATERAL ({_LEARNER.format(key="external_id = w.learner")}) l
    UNION SELECT w.line, l.id, l.email FROM wanted w
    CROSS JOIN LATERAL ({_LEARNER.format(key="lower(email) = lower(w.learner)")}) l),
persons AS (SELECT line, count(*) AS n, min(id) AS id, min(lower(email)) AS email FROM named GROUP BY line),
given AS (SELECT DISTINCT series_code AS code FROM wanted),
exact AS (
    SELECT code, count(*) AS n, min(id) AS id FROM lms.series
    WHERE organisation_id = :organisation_id AND code IN (SELECT code FROM given) GROUP BY code),
codes AS (
    SELECT code, n, id FROM exact
    UNION ALL  -- written with other capital letters, which is clear where one Series alone has such a code
    SELECT g.code, count(*), min(s.id) FROM given g
    JOIN lms.series s ON s.organisation_id = :organisation_id AND lower(s.code) = lower(g.code)
    WHERE g.code NOT IN (SELECT code FROM exact) GROUP BY g.code HAVING count(*) = 1),
titles AS (
    SELECT title, array_agg(id) AS ids FROM lms.pathways
    WHERE organisation_id = :organisation_id AND title IN (SELECT pathway FROM wanted) GROUP BY title)
SELECT w.line, coalesce(t.enrolment_id, e.standing_id, e.newest_id) AS enrolment_id,
    CASE WHEN p.id IS NULL THEN 'unknown_learner'
        WHEN p.n > 1 THEN 'several_learners'
        WHEN w.external_id IS NOT NULL AND p.email <> lower(w.email) THEN 'other_learner'
        WHEN s.id IS NULL THEN 'unknown_series'
        WHEN s.n > 1 THEN 'several_series'
        WHEN w.pathway IS NOT NULL AND y.ids IS NULL THEN 'unknown_pathway'
        WHEN t.enrolment_id IS NOT NULL THEN NULL
        WHEN e.newest_id IS NULL AND w.pathway IS NOT NULL THEN 'not_in_pathway'
        WHEN e.newest_id IS NULL THEN 'not_enrolled'
        WHEN e.standing > 1 THEN 'several_enrolments' END AS code
FROM wanted w
LEFT JOIN persons p ON p.line = w.line
LEFT JOIN codes s ON s.code = w.series_code
LEFT JOIN titles y ON y.title = w.pathway
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE o.stands) AS standing, max(o.id) FILTER (WHERE o.stands) AS standing_id,
        max(o.id) AS newest_id
    FROM (SELECT e.id, e.status NOT IN ({sql_list([WITHDRAWN, *ENDED])}) AS stands FROM lms.enrolments e
        WHERE e.organisation_id = :organisation_id AND e.learner_id = p.id AND e.series_id + 0 = s.id
            AND (w.pathway IS NULL OR e.pathway_id = ANY (y.ids))) o) e ON true
LEFT JOIN LATERAL (
    SELECT max(t.enrolment_id) AS enrolment_id FROM pg_temp.taken t
    WHERE t.learner_id = p.id AND t.series_id = s.id AND (w.pathway IS NULL OR t.pathway_id = ANY (y.ids))) t ON true
""")
_STAGED = text("""
CREATE TEMP TABLE staged ON COMMIT DROP AS
SELECT line, enrolment_id FROM pg_temp.found WHERE code IS NULL
UNION ALL SELECT line, enrolment_id FROM pg_temp.asked WHERE enrolment_id IS NOT NULL
""")
_COUNT = text("SELECT (SELECT count(*) FROM pg_temp.staged), (SELECT count(code) FROM pg_temp.found)")


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows are good, and how many have a fault."""

    good: int
    faulty: int


def look_up(connection: Connection, organisation_id: int, *, batch: int | None) -> Found:
    """Find the enrolment of each row that was staged, and stage the ids of the good ones.

    `batch`: the first job of the batch that the file belongs to.
    """
    connection.execute(_TAKEN, {"organisation_id": organisation_id, "batch": batch})
    connection.execute(text("CREATE INDEX ON pg_temp.taken (learner_id, series_id)"))
    connection.execute(_FOUND, {"organisation_id": organisation_id})
    connection.execute(_STAGED)
    good, faulty = connection.execute(_COUNT).one()
    return Found(good, faulty)


_FAULTS = """
SELECT f.line, f.code, a.series_code FROM pg_temp.found f JOIN pg_temp.asked a ON a.line = f.line
WHERE f.code IS NOT NULL ORDER BY f.line"""


class RowFault(NamedTuple):
    """A row that was looked up in vain: its line, the code of the fault, and the Series code that it has."""

    line: int
    code: str
    series_code: str | None


def list_faults(connection: Connection, most: int) -> list[RowFault]:
    """The first rows that were looked up in vain."""
    return [RowFault(*row) for row in connection.execute(text(f"{_FAULTS} LIMIT :most"), {"most": most})]


def stream_faults(connection: Connection) -> Iterator[RowFault]:
    """Every row that was looked up in vain, by line; a few are in memory at a time."""
    for row in connection.execute(text(_FAULTS), execution_options={"yield_per": 1000}):
        yield RowFault(*row)


_UNKNOWN_SERIES = text("""
SELECT a.series_code FROM pg_temp.found f JOIN pg_temp.asked a ON a.line = f.line
WHERE f.code = 'unknown_series' GROUP BY a.series_code ORDER BY min(f.line) LIMIT :most
""")
_SERIES = text(
    "SELECT code, title FROM lms.series WHERE organisation_id = :organisation_id ORDER BY id DESC LIMIT :most"
)


def list_unknown_series(connection: Connection, most: int) -> list[str]:
    """The first codes of the file that no Series has."""
    return list(connection.scalars(_UNKNOWN_SERIES, {"most": most}))


def list_series(connection: Connection, organisation_id: int, most: int) -> list[tuple[str, str]]:
    """Code and title of an organisation's Series, the newest first."""
    rows = connection.execute(_SERIES, {"organisation_id": organisation_id, "most": most})
    return [(row.code, row.title) for row in rows]


_REPEATED = text("""
SELECT line, first_line, enrolment_id
FROM (SELECT s.line, s.enrolment_id, min(s.line) OVER (PARTITION BY s.enrolment_id) AS first_line
    FROM pg_temp.staged s) s
WHERE line > first_line ORDER BY line LIMIT :most
""")


def list_repeated(connection: Connection, most: int) -> list[dict[str, int]]:
    """The first staged rows whose enrolment an earlier row names: `line`, `first_line`, `enrolment_id`."""
    return [dict(row) for row in connection.execute(_REPEATED, {"most": most}).mappings()]


# Locked by its own key and not by the first job's row, which pausing and cancelling need meanwhile.
_LOCK_BATCH = text("SELECT pg_advisory_xact_lock(hashtextextended('batch', :batch))")


def lock_batch(connection: Connection, batch: int) -> None:
    """Let the files of a batch be accepted one after the other: each has to see what the ones before have taken."""
    connection.execute(_LOCK_BATCH, {"batch": batch})


@dataclass(frozen=True, slots=True)
class Batch:
    """The files that were sent as one: the first job, its reason and requester, and a cancelled one among its jobs."""

    id: int
    reason: str
    requested_by: str
    cancelled: int | None
    pruned: int | None
    """A job among them whose lines are not kept any more."""


_BATCH = text("""
SELECT j.id, j.reason, j.requested_by, own.cancelled, own.pruned
FROM withdrawals.jobs j CROSS JOIN LATERAL (
    SELECT min(k.id) FILTER (WHERE k.state = 'cancelled') AS cancelled,
        min(k.id) FILTER (WHERE k.prune_id IS NOT NULL) AS pruned
    FROM (SELECT j.id UNION ALL SELECT b.job_id FROM withdrawals.batch_jobs b WHERE b.first_job_id = j.id) own
    JOIN withdrawals.jobs k ON k.id = own.id) own
WHERE j.organisation_id = :organisation_id
    AND (EXISTS (SELECT FROM withdrawals.file_lines f WHERE f.job_id = j.id)
        OR (j.prune_id IS NOT NULL AND j.file_name IS NOT NULL))
    AND j.id = coalesce((SELECT first_job_id FROM withdrawals.batch_jobs WHERE job_id = :job_id), :job_id)
""")


def find_batch(connection: Connection, organisation_id: int, job_id: int) -> Batch | None:
    """The batch of a job that was made from a file; any of its jobs names it. None: there is no such job."""
    row = connection.execute(_BATCH, {"organisation_id": organisation_id, "job_id": job_id}).one_or_none()
    return Batch(*row) if row else None


_JOIN_BATCH = text("""
INSERT INTO withdrawals.batch_jobs (job_id, first_job_id, organisation_id) VALUES (:job_id, :batch, :organisation_id)
""")


def join_batch(connection: Connection, organisation_id: int, *, job_id: int, batch: int) -> None:
    """Record that a job belongs to a batch, in the transaction that makes it."""
    connection.execute(_JOIN_BATCH, {"job_id": job_id, "batch": batch, "organisation_id": organisation_id})


_DROP_TAKEN = text("""
DELETE FROM pg_temp.staged s USING (
    SELECT DISTINCT unnest(f.enrolment_ids) AS id FROM withdrawals.file_lines f
    JOIN withdrawals.jobs j ON j.id = f.job_id AND j.organisation_id = :organisation_id
    WHERE f.job_id = :batch OR f.job_id IN (
        SELECT job_id FROM withdrawals.batch_jobs WHERE first_job_id = :batch)) t
WHERE s.enrolment_id = t.id
""")


def drop_taken(connection: Connection, organisation_id: int, batch: int) -> int:
    """Take out of the staged rows what a job of the batch has taken already; how many rows."""
    return connection.execute(_DROP_TAKEN, {"organisation_id": organisation_id, "batch": batch}).rowcount
