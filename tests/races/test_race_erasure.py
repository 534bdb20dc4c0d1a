"""Something about a person is asked for while they are being erased: it is refused, or it is in the erasure's way."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection

from schemas.jobs import JobRequest
from schemas.people import ErasureRequest
from tests.support.racing import Threads, await_waiters
from tests.world import PATIENCE, World
from worker.access import erased
from worker.database import Database
from worker.errors import ErasedPersonError
from worker.jobs.submit import submit
from worker.ledger import erasures, findable, jobs
from worker.people.erasure import erase
from worker.search.keeper import keep_all

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


@pytest.mark.parametrize("erased_first", [True, False])
def test_a_page_of_the_search_leaves_out_who_is_being_erased(
    db: Database, owner: Database, world: World, threads: Threads, erased_first: bool
) -> None:
    """The page waits for the erasure, or the erasure for the page: the person's row is never there afterwards."""
    world.run("UPDATE lms.learners SET active = false WHERE id = :id", id=world.learner("anna"))
    if erased_first:
        with erasing(owner, world.organisation_id, "anna") as erasure:
            findable.lock(erasure)
            keeping = threads.go(keep_all, db)
            await_waiters(world)
            erasure.commit()
            keeping.result(PATIENCE)
    else:
        with db.engine.connect() as page:
            findable.lock(page)
            row = findable.read_page(page, findable.LEARNER, after=0, most=10, rules=1).changed[0]
            findable.write(page, findable.LEARNER, [(row, [1])])
            request = ErasureRequest(external_id="anna", note="request 12")
            asking = threads.go(erase, owner, organisation_id=world.organisation_id, request=request, actor="dpo")
            await_waiters(world)
            page.commit()
            asking.result(PATIENCE)
    assert world.one("SELECT count(*) FROM withdrawals.findable WHERE kind = 'learner'") == 0
