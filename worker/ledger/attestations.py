"""Who left in a time, when they were withdrawn, and what of it is open."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from schemas.catalogue import Reason
from worker.ledger.fragments import LIVE, sql_list
from worker.rules import ENDED, WITHDRAWN


@dataclass(frozen=True, slots=True)
class Leaver:
    """A person whose deactivation took effect, and stands."""

    external_id: str
    source: str | None
    """Of the event that decides."""
    left_at: datetime
    withdrawn: int
    """Enrolments that were withdrawn since, because the person left."""
    withdrawn_at: datetime | None
    """The last of them."""
    open_enrolments: int
    """Neither ended nor withdrawn."""
    open_letters: int


_LEAVERS = text(f"""
SELECT p.external_id, v.source, p.effective_at AS left_at, e.withdrawn, e.withdrawn_at, e.open_enrolments,
    e.open_letters
FROM withdrawals.persons p
LEFT JOIN lms.learners l ON l.organisation_id = p.organisation_id AND l.external_id = p.external_id
LEFT JOIN LATERAL (SELECT v.source FROM withdrawals.person_events v WHERE v.organisation_id = p.organisation_id
    AND v.external_id = p.external_id AND v.type = 'user.deactivated' ORDER BY v.occurred_at DESC LIMIT 1) v ON true
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE is_withdrawn) AS withdrawn, max(withdrawn_at) FILTER (WHERE is_withdrawn)
        AS withdrawn_at, count(*) FILTER (WHERE is_open) AS open_enrolments,
        count(*) FILTER (WHERE is_open AND EXISTS (SELECT FROM withdrawals.dead_letters d
            WHERE d.organisation_id = p.organisation_id AND d.enrolment_id = o.id AND d.state IN ({sql_list(LIVE)})
        )) AS open_letters
    FROM (SELECT e.id, e.withdrawn_at, e.status = '{WITHDRAWN}' AND e.withdrawal_reason = '{Reason.USER_DEACTIVATED}'
            AND e.withdrawn_at >= p.effective_at AS is_withdrawn,
            e.status NOT IN ({sql_list([WITHDRAWN, *ENDED])}) AS is_open
        FROM lms.enrolments e WHERE e.learner_id = l.id AND e.organisation_id = p.organisation_id) o) e
WHERE p.organisation_id = :organisation AND NOT p.active AND p.effective_at >= :begin AND p.effective_at < :end
ORDER BY p.effective_at, p.external_id
""")


def stream_leavers(connection: Connection, organisation_id: int, *, begin: datetime, end: datetime) -> Iterator[Leaver]:
    """The people who left in a time and have not come back, by that time; a few in memory."""
    values = {"organisation": organisation_id, "begin": begin, "end": end}
    for row in connection.execute(_LEAVERS, values, execution_options={"yield_per": 1000}):
        yield Leaver(*row)
