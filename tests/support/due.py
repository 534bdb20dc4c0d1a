"""What is due, counted as the relay counts it."""

from sqlalchemy import Connection, text

from worker.ledger import claims
from worker.ledger.fragments import plan_by_index


def count_due(connection: Connection, *, most: int) -> int:
    """How many chunks are due, counted no further than `most`."""
    plan_by_index(connection)
    claims.wake_deferred(connection)
    return int(connection.scalar(text(claims.COUNT_DUE), {"most": most}) or 0)
