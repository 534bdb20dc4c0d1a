"""What the overview shows beside the gauges: processes by kind, jobs by state, whether there is anything at all."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

MOST = 1000
"""Jobs of one state that are counted; of more it is said that there are more."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one kind that were seen lately."""

    running: int
    threads: int
    seen_at: datetime
    """When one was last seen, also if that was long ago."""


_PROCESSES = text("""
SELECT kind, count(*) FILTER (WHERE live) AS running, coalesce(sum(threads) FILTER (WHERE live), 0) AS threads,
    max(seen_at) AS seen_at
FROM (SELECT kind, threads, seen_at, seen_at > now() - interval '15 seconds' AS live FROM withdrawals.processes) p
GROUP BY kind
""")


def processes(connection: Connection) -> dict[str, Processes]:
    """Processes by kind; a kind that was never seen, or not for a day, is missing."""
    rows = connection.execute(_PROCESSES)
    return {row.kind: Processes(int(row.running), int(row.threads), row.seen_at) for row in rows}


_UNFINISHED = text(
    " UNION ALL ".join(
        f"""(SELECT '{state}' AS state, count(*) AS n FROM (SELECT 1 FROM withdrawals.jobs
    WHERE organisation_id = :organisation_id AND state = '{state}' LIMIT :most) found)"""
        for state in ("scheduled", "held", "paused")
    )
    + """ UNION ALL (SELECT CASE WHEN begun THEN 'running' ELSE 'queued' END, count(*) FROM (
    SELECT EXISTS (SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL
        AND c.state NOT IN ('waiting', 'ready')) AS begun
    FROM withdrawals.jobs j WHERE j.organisation_id = :organisation_id AND j.state = 'queued'
    ORDER BY j.id DESC LIMIT :most) found GROUP BY begun)"""
)


def unfinished(connection: Connection, organisation_id: int) -> dict[str, int]:
    """Jobs that have not ended by state, each counted up to one more than `MOST`."""
    values = {"organisation_id": organisation_id, "most": MOST + 1}
    return {row.state: int(row.n) for row in connection.execute(_UNFINISHED, values)}


# By the Series: the platform has an index over those, and none over an organisation's enrolments.
_ANY = text("""
SELECT EXISTS (SELECT 1 FROM lms.series s WHERE s.organisation_id = :organisation_id
    AND EXISTS (SELECT 1 FROM lms.enrolments e WHERE e.series_id = s.id))
""")


def has_enrolments(connection: Connection, organisation_id: int) -> bool:
    """Whether an organisation has any enrolment."""
    return bool(connection.scalar(_ANY, {"organisation_id": organisation_id}))
