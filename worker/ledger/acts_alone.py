"""What people did alone where the policies limit it: the sizes count together within the brake's window.

Every statement but the deletion runs under the lock of the organisation's settings row. Without a limit nothing is
written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, insert, select, text

from schemas.catalogue import GuardedAct
from worker.models import acts_alone


@dataclass(frozen=True, slots=True)
class DoneAlone:
    """Acts of one name from one source, in sum."""

    source: str | None
    size: int
    actor: str
    made_by: str | None
    """Who created the actor's token."""


def list_done(connection: Connection, organisation_id: int, act: GuardedAct, *, hours: int) -> list[DoneAlone]:
    """What anybody did alone in so many hours."""
    by = (acts_alone.c.source, acts_alone.c.actor, acts_alone.c.made_by)
    statement = (
        select(acts_alone.c.source, func.sum(acts_alone.c.size), acts_alone.c.actor, acts_alone.c.made_by)
        .where(
            acts_alone.c.organisation_id == organisation_id,
            acts_alone.c.act == act,
            acts_alone.c.at > func.now() - timedelta(hours=hours),
        )
        .group_by(*by)
    )
    return [DoneAlone(row[0], int(row[1]), row[2], row[3]) for row in connection.execute(statement)]


def record(
    connection: Connection,
    organisation_id: int,
    act: GuardedAct,
    sizes: Mapping[str | None, int],
    *,
    actor: str,
    made_by: str | None,
) -> None:
    """Write what somebody does alone in this transaction, by source."""
    rows = [
        {"organisation_id": organisation_id, "act": act, "source": source, "size": size, "actor": actor,
         "made_by": made_by}
        for source, size in sizes.items()
        if size
    ]  # fmt: skip
    if rows:
        connection.execute(insert(acts_alone), rows)


_DELETE_OLD = text("""
DELETE FROM withdrawals.acts_alone WHERE id IN (
    SELECT id FROM withdrawals.acts_alone WHERE at < now() - interval '721 hours' ORDER BY id LIMIT :most)
""")


def delete_old(connection: Connection, *, most: int = 5000) -> int:
    """Delete acts that have left the longest window (720 hours), up to `most`; how many."""
    return connection.execute(_DELETE_OLD, {"most": most}).rowcount
