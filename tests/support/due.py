"""What is due, found as claims find it."""

from sqlalchemy import Connection, text

from worker.ledger import claims
from worker.ledger.fragments import plan_by_index

_COUNT = f"SELECT count(*) FROM (SELECT FROM withdrawals.chunks c WHERE {claims._DUE} LIMIT :most) due"


def count_due(connection: Connection, *, most: int) -> int:
    """How many chunks are due, counted no further than `most`."""
    plan_by_index(connection)
    claims.wake_deferred(connection)
    return int(connection.scalar(text(_COUNT), {"most": most}) or 0)


def count_claims(connection: Connection, *, most: int, budget: int = 1000) -> int:
    """How many claims the relay expects of what is due."""
    plan_by_index(connection)
    return int(connection.scalar(text(claims.COUNT_CLAIMS), {"most": most, "budget": budget}) or 0)
