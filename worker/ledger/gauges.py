"""What the metrics show, counted at each scrape; over all organisations, with no name among it."""

from typing import Any

from sqlalchemy import Connection, text

_HELD = text("SELECT held_because AS cause, count(*) AS n FROM withdrawals.jobs WHERE state = 'held' GROUP BY 1")
_LETTERS = text("SELECT code, count(*) AS n FROM withdrawals.dead_letters WHERE state = 'open' GROUP BY 1")
_DUE = text("""
SELECT count(*) AS n, coalesce(extract(epoch FROM now() - min(c.run_after)), 0) AS age
FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.state = 'ready' AND c.run_after <= now() AND (c.redrives IS NOT NULL OR j.state = 'queued')
""")


def held(connection: Connection) -> dict[str, int]:
    """Jobs that wait for a second person, by cause."""
    return {row.cause: int(row.n) for row in connection.execute(_HELD)}


def open_letters(connection: Connection) -> dict[str, int]:
    """Open dead letters by code."""
    return {row.code: int(row.n) for row in connection.execute(_LETTERS)}


def due(connection: Connection) -> tuple[int, float]:
    """Chunks that are due, and for how many seconds the oldest has been."""
    row: Any = connection.execute(_DUE).one()
    return int(row.n), float(row.age)
