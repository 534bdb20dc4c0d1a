"""Two workers and the look-ups of one person: one at a time, whatever commits in between."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.incoming import make_registered
from tests.support.racing import Threads, await_waiters
from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger import lookups
from worker.queue.lookups import Lookups

LEASE = timedelta(seconds=60)
_INSERT = text("""
INSERT INTO withdrawals.receipts (organisation_id, door, idempotency_key, request_hash, status, waiting, type,
    external_id, lookup, run_after)
VALUES (:organisation, 'hr:workday', :key, '\\x00', 'accepted', true, 'user.changed', 'anna', true, now())
""")


def test_an_older_event_that_commits_late_waits_for_the_lookup_in_hand(
    world: World, db: Database, slow_db: Database, environment: Settings, threads: Threads
) -> None:
    """Neither of the two transactions sees what the other one does: the index keeps the second out."""
    make_registered(db, environment, world.organisation_id)
    values: dict[str, Any] = {"organisation": world.organisation_id}
    with slow_db.engine.connect() as late, slow_db.engine.connect() as first:
        late.execute(_INSERT, {**values, "key": "older"})
        db.run(lambda connection: connection.execute(_INSERT, {**values, "key": "newer"}))
        claimed = lookups.claim(first, lease=LEASE)
        assert claimed is not None and claimed.event.key == "newer"
        late.commit()
        second = threads.go(Lookups(slow_db, environment).step)
        await_waiters(world)
        first.commit()
        assert second.result() is False
    assert [row.looked_up_at is not None for row in world.run(
        "SELECT looked_up_at FROM withdrawals.receipts ORDER BY id"
    )] == [False, True]  # fmt: skip
    assert not db.run(lambda connection: connection.scalar(lookups.ANY_DUE.clause))


@pytest.mark.parametrize("again", [False, True])
def test_a_worker_that_lost_its_lease_records_nothing(
    world: World, db: Database, environment: Settings, again: bool
) -> None:
    make_registered(db, environment, world.organisation_id)
    db.run(lambda connection: connection.execute(_INSERT, {"organisation": world.organisation_id, "key": "one"}))
    lost = db.run(lambda connection: lookups.claim(connection, lease=timedelta(0)))
    assert lost is not None
    if again:
        assert db.run(lambda connection: lookups.claim(connection, lease=LEASE)) is not None
    assert db.run(lambda connection: lookups.lock(connection, lost)) is not again
