"""An accepted roster as it is applied: the lines that are not decided yet, what becomes of each, and who left."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text

from worker.ledger.roster_findings import OPEN, WITHDRAW
from worker.ledger.rosters import lift_limits
from worker.models import roster_lines
from worker.rules import ROSTER

_UNDECIDED = (
    select(roster_lines.c.external_id, roster_lines.c.line, roster_lines.c.active)
    .where(roster_lines.c.result.is_(None))
    .order_by(roster_lines.c.external_id)
)


def list_undecided(
    connection: Connection, roster_id: int, *, after: str, most: int
) -> list[tuple[str, int | None, bool]]:
    """Lines of a locked roster that are not decided, by external id from the one after `after`."""
    here = (roster_lines.c.roster_id == roster_id, roster_lines.c.external_id > after)
    return [(row[0], row[1], row[2]) for row in connection.execute(_UNDECIDED.where(*here).limit(most))]


_RECORD_ACTIVE = text(f"""
INSERT INTO withdrawals.person_events AS known (organisation_id, external_id, source, type, occurred_at, effective_at)
SELECT :organisation, id, '{ROSTER}', 'user.reactivated', :as_of, :as_of
FROM unnest(CAST(:ids AS text[])) id ORDER BY id
ON CONFLICT (organisation_id, external_id, source) DO UPDATE SET type = excluded.type, sequence = NULL,
    occurred_at = excluded.occurred_at, effective_at = excluded.effective_at
    WHERE known.occurred_at < excluded.occurred_at
""")
_KNOWN_FROM_NOW_ON = text("""
UPDATE withdrawals.persons SET epoch = 1
WHERE organisation_id = :organisation AND external_id = ANY(CAST(:ids AS text[])) AND epoch = 0
""")


def record_active(connection: Connection, organisation_id: int, external_ids: Sequence[str], as_of: datetime) -> None:
    """Record that a roster has locked persons as active who were: this changes nothing but what older events can do."""
    values = {"organisation": organisation_id, "ids": list(external_ids), "as_of": as_of}
    connection.execute(_RECORD_ACTIVE, values)
    connection.execute(_KNOWN_FROM_NOW_ON, values)


_FORGET_LINES = text("DELETE FROM withdrawals.roster_lines WHERE roster_id = :roster AND external_id = ANY(:ids)")
_SETTLE = text("""
UPDATE withdrawals.roster_lines t SET result = g.result, epoch = g.epoch
FROM unnest(CAST(:ids AS text[]), CAST(:results AS text[]), CAST(:epochs AS bigint[])) AS g(external_id, result, epoch)
WHERE t.roster_id = :roster AND t.external_id = g.external_id
""")


def settle(
    connection: Connection, roster_id: int, results: Mapping[str, tuple[str, int | None]], unchanged: Sequence[str]
) -> None:
    """Write what became of lines, with the epoch of those to be withdrawn; forget those that changed nothing."""
    if results:
        values: dict[str, Any] = {"roster": roster_id, "ids": list(results)}
        values["results"], values["epochs"] = (list(one) for one in zip(*results.values(), strict=True))
        connection.execute(_SETTLE, values)
    if unchanged:
        connection.execute(_FORGET_LINES, {"roster": roster_id, "ids": list(unchanged)})


_LONGEST = "15min"
"""For one statement over all people of a roster: with a million it takes a few minutes at the most."""
_STAGE_JOB = "CREATE TEMP TABLE staged (line integer, enrolment_id bigint NOT NULL) ON COMMIT DROP"
_STAGE_LEFT = text(f"""
INSERT INTO pg_temp.staged SELECT t.line, e.id
FROM withdrawals.roster_lines t
JOIN withdrawals.persons p ON p.organisation_id = :organisation AND p.external_id = t.external_id AND p.epoch = t.epoch
JOIN lms.learners l ON l.organisation_id = :organisation AND l.external_id = t.external_id
JOIN lms.enrolments e ON e.learner_id = l.id AND e.organisation_id = :organisation
WHERE t.roster_id = :roster AND t.result = '{WITHDRAW}' AND {OPEN}
""")


def stage_left(connection: Connection, organisation_id: int, roster_id: int) -> int:
    """Stage the enrolments of people who left, of whom nothing newer is known, with their lines; how many."""
    lift_limits(connection, statement=_LONGEST)
    connection.execute(text(_STAGE_JOB))
    return connection.execute(_STAGE_LEFT, {"organisation": organisation_id, "roster": roster_id}).rowcount
