"""Files of one batch at the same time: each row is taken by one of them."""

import io
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy.exc

from schemas.jobs import FileRequest
from tests.support.racing import await_waiters, held
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, is_passing
from worker.jobs.files.submit import Options, submit_file
from worker.records import Job


def test_files_of_a_batch_at_once_take_each_row_once(
    db: Database, owner: Database, world: World, environment: Settings
) -> None:
    """Somebody who got no answer sends the mended file again, with another key, while the first is still accepted."""
    ids, request = world.enrolments(20), FileRequest(reason="not_required")

    def send(rows: list[int], batch: int | None) -> Job | None:
        content = "enrolment_id\n" + "".join(f"{one}\n" for one in rows)
        while True:
            try:
                return submit_file(
                    db, world.requester(), request, io.BytesIO(content.encode()), options=Options(batch=batch)
                ).submitted.job
            except ConflictError:
                return None
            except sqlalchemy.exc.DBAPIError as error:  # waited for the lock as long as it may
                assert is_passing(error)

    first = send(ids[:5], None)
    assert first is not None
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('batch', :batch))"
    with ThreadPoolExecutor(2) as threads:
        with held(owner, lock, batch=first.id) as hold:
            both = [threads.submit(send, ids, first.id) for _ in range(2)]
            await_waiters(world, 2)
            hold.release()
        made = [one.result() for one in both]
    assert [(job.accepted, job.duplicates) for job in made if job is not None] == [(15, 5)]
    decide_due(db, environment)
    assert [world.status(one) for one in ids] == ["withdrawn"] * 20
    assert_balanced(db)
