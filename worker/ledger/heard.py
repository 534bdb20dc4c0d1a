"""When each source of HR events was last heard, and which of them have been silent for too long.

A source is an HR system that sends events, the SCIM directory, or the full rosters.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, text
from sqlalchemy.dialects.postgresql import insert

from worker.models import silence_limits
from worker.rules import ROSTER

# A directory that changes nothing makes no event: its token says when it called. A source that was never heard counts
# from when it was made, and one that has but a limit, from that.
HEARD = f"""
SELECT f.organisation_id, f.source, f.kind, f.heard_at, s.hours AS silent_after_hours,
    coalesce(s.hours IS NOT NULL AND greatest(f.heard_at, s.set_at, f.since) < now() - make_interval(hours => s.hours),
        false) AS is_silent,
    greatest(f.heard_at, s.set_at, f.since) AS quiet_since
FROM (
    SELECT o.organisation_id, o.name AS source, o.kind, o.created_at AS since, o.last_event_at AS heard_at
    FROM withdrawals.sources o WHERE o.disabled_at IS NULL
    UNION ALL
    SELECT t.organisation_id, 'scim', 'scim', min(t.created_at), max(t.last_used_at)
    FROM withdrawals.tokens t WHERE t.role = 'scim' AND t.revoked_at IS NULL GROUP BY 1
    UNION ALL
    SELECT r.organisation_id, '{ROSTER}', '{ROSTER}', NULL, max(r.accepted_at)
    FROM (SELECT organisation_id, accepted_at FROM withdrawals.rosters
        UNION ALL SELECT organisation_id, NULL FROM withdrawals.silence_limits WHERE source = '{ROSTER}') r
    GROUP BY 1
) f LEFT JOIN withdrawals.silence_limits s ON s.organisation_id = f.organisation_id AND s.source = f.source
"""
"""Every live source of all organisations."""
_SHOWN = f"SELECT organisation_id, source, kind, heard_at, silent_after_hours, is_silent FROM ({HEARD}) h"
_OF_ORGANISATION = text(f"{_SHOWN} WHERE h.organisation_id = :organisation ORDER BY h.source")
_SILENT = text(f"{_SHOWN} WHERE h.is_silent ORDER BY h.organisation_id, h.source")


@dataclass(frozen=True, slots=True)
class HeardSource:
    """A source with the time at which it was last heard; None: never."""

    organisation_id: int
    source: str
    kind: str
    heard_at: datetime | None
    silent_after_hours: int | None
    """None: nobody waits for it."""
    is_silent: bool
    """Whether it was not heard for longer than that."""


def list_heard(connection: Connection, organisation_id: int) -> list[HeardSource]:
    """Every live source of an organisation, by name."""
    return [HeardSource(*row) for row in connection.execute(_OF_ORGANISATION, {"organisation": organisation_id})]


def list_silent(connection: Connection) -> list[HeardSource]:
    """The sources of all organisations that have been silent for longer than their limit."""
    return [HeardSource(*row) for row in connection.execute(_SILENT)]


def set_limit(connection: Connection, organisation_id: int, source: str, *, hours: int | None, actor: str) -> None:
    """Say after how many hours without a word a source counts as silent; None: never."""
    if hours is None:
        ours = (silence_limits.c.organisation_id == organisation_id, silence_limits.c.source == source)
        connection.execute(delete(silence_limits).where(*ours))
        return
    row = insert(silence_limits).values(organisation_id=organisation_id, source=source, hours=hours, set_by=actor)
    changed = {name: row.excluded[name] for name in ("hours", "set_by")}
    connection.execute(row.on_conflict_do_update(index_elements=["organisation_id", "source"], set_=changed))
