"""What a job would do: the rules of `decide` over a selection, counted; nothing is locked or written."""

from typing import Any

from sqlalchemy import Connection, text

from worker.ledger import jobs
from worker.ledger.decide import RULES

_COUNT = """
WITH ids AS ({ids}), verdicts AS (
    SELECT {rules} AS outcome FROM (SELECT id, false AS superseded, false AS override FROM ids) a
    LEFT JOIN lms.enrolments e ON e.id = a.id AND e.organisation_id = :organisation_id
)
SELECT outcome, count(*) AS n FROM verdicts GROUP BY outcome ORDER BY outcome
"""
_BY_STAGED = text(_COUNT.format(ids="SELECT DISTINCT enrolment_id AS id FROM pg_temp.staged", rules=RULES))
_BY_FILTER = text(_COUNT.format(ids=jobs.FILTERED, rules=RULES))


def by_staged(connection: Connection, organisation_id: int) -> dict[str, int]:
    """Counts of the outcomes that a job over the staged ids would have now."""
    return _counts(connection.execute(_BY_STAGED, {"organisation_id": organisation_id}))


def by_filter(connection: Connection, organisation_id: int, conditions: dict[str, Any]) -> dict[str, int]:
    """Counts of the outcomes that a job over this filter would have now."""
    return _counts(connection.execute(_BY_FILTER, {"organisation_id": organisation_id, **conditions}))


def _counts(rows: Any) -> dict[str, int]:
    return {row.outcome: int(row.n) for row in rows}
