"""What a job would do: the rules of `decide` over a selection, counted; nothing is locked or written."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import text

from worker.database import Database
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


def by_ids(database: Database, organisation_id: int, ids: Iterable[int]) -> dict[str, Any]:
    """Counts of the outcomes that a job over these ids would have now."""
    with database.begin() as connection:
        given, _ = jobs.stage(connection, ids)
        rows = connection.execute(_BY_STAGED, {"organisation_id": organisation_id})
        outcomes = {row.outcome: int(row.n) for row in rows}
    accepted = sum(outcomes.values())
    return {"accepted": accepted, "duplicates": given - accepted, "outcomes": outcomes}


def by_filter(database: Database, organisation_id: int, conditions: dict[str, Any]) -> dict[str, Any]:
    """Counts of the outcomes that a job over this filter would have now."""
    with database.begin() as connection:
        rows = connection.execute(_BY_FILTER, {"organisation_id": organisation_id, **conditions})
        outcomes = {row.outcome: int(row.n) for row in rows}
    return {"accepted": sum(outcomes.values()), "duplicates": 0, "outcomes": outcomes}
