"""Something about a person is asked for while they are being erased: it is refused, or it is in the erasure's way."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection

from schemas.jobs import JobRequest
from tests.support.racing import Threads, await_waiters
from tests.world import PATIENCE, World
from worker.access import erased
from worker.database import Database
from worker.errors import ErasedPersonError
from worker.jobs.submit import submit
from worker.ledger import erasures, jobs

TOMORROW = datetime.now(UTC) + timedelta(days=1)


@contextmanager
def erasing(owner: Database, organisation_id: int, person: str) -> Iterator[Connection]:
    """The first transaction of an erasure, which has put the tombstone and is not committed yet."""
    with owner.engine.connect() as connection:
        sealed_key = jobs.lock_settings(connection, organisation_id)
        hashed = erased.person_hash(erased.open_or_make_key(connection, organisation_id, sealed_key), person)
        made = {"pseudonym": erased.pseudonym(hashed), "erased_by": "dpo", "note": "request 12"}
        erasures.record(connection, organisation_id, hashed, **made)
        yield connection


@pytest.mark.parametrize("effective_at", [None, TOMORROW, date(2099, 1, 1)])
def test_a_job_that_names_somebody_waits_for_their_erasure(
    slow_db: Database, owner: Database, world: World, threads: Threads, effective_at: datetime | date | None
) -> None:
    """Also one that is scheduled, for which no brake is asked yet."""
    world.run("UPDATE lms.learners SET active = false WHERE id = :id", id=world.learner("anna"))
    request = JobRequest(reason="not_required", learner_external_id="anna", effective_at=effective_at)
    with erasing(owner, world.organisation_id, "anna") as erasure:
        asking = threads.go(submit, slow_db, world.requester(), request)
        await_waiters(world)
        erasure.commit()
        with pytest.raises(ErasedPersonError):
            asking.result(PATIENCE)
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0
