"""How far a standby is behind its primary, by the position in PostgreSQL's log."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Written:
    """What the primary has written by now, and its time."""

    position: str
    at: datetime


def written(primary: Connection) -> Written:
    """Where the primary's log ends at this moment."""
    row = primary.execute(text("SELECT pg_current_wal_flush_lsn()::text AS position, clock_timestamp() AS at")).one()
    return Written(row.position, row.at)


# Behind the position, the newest commit that was replayed tells: everything before it is there. The leading relay
# writes every three seconds, so an idle system does not look old. Both times are the primary's.
_BEHIND = text("""
SELECT CASE WHEN pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn) THEN 0
    ELSE greatest(0, extract(epoch FROM CAST(:at AS timestamptz) - pg_last_xact_replay_timestamp())) END""")


def seconds_behind(standby: Connection, primary: Written) -> float | None:
    """Seconds that the standby was behind at most; None: it has not replayed a commit since it started."""
    found = standby.scalar(_BEHIND, {"position": primary.position, "at": primary.at})
    return None if found is None else float(found)


def is_standby(connection: Connection) -> bool:
    """Whether the server replays another's log."""
    return bool(connection.scalar(text("SELECT pg_is_in_recovery()")))
