"""Files of one batch at the same time: each row is taken by one of them."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy.exc

from schemas.jobs import FileRequest
from tests.support.racing import Threads, await_waiters, held
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError
from worker.faults import is_passing
from worker.jobs import control
from worker.jobs.files.submit import Options, submit_file
from worker.jobs.submit import Requester
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


LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('batch', :batch))"


def submit_rows(db: Database, who: Requester, rows: list[int], batch: int | None) -> Job:
    content = "enrolment_id\n" + "".join(f"{one}\n" for one in rows)
    request, options = FileRequest(reason="not_required"), Options(batch=batch)
    return submit_file(db, who, request, io.BytesIO(content.encode()), options=options).submitted.job


def test_a_batch_whose_job_is_cancelled_while_a_file_waits_refuses_the_file(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """Else its rows would be left out as taken, and nobody would do them."""
    ids = world.enrolments(10)
    first = submit_rows(slow_db, world.requester(), ids[:5], None)
    with held(owner, LOCK, batch=first.id) as hold:
        waiting = threads.go(lambda: submit_rows(slow_db, world.requester(), ids, first.id))
        await_waiters(world)
        control.cancel(slow_db, organisation_id=world.organisation_id, job_id=first.id, actor="test:operator")
        hold.release()
        with pytest.raises(ConflictError, match="was cancelled"):
            waiting.result(PATIENCE)


def test_a_request_of_a_batch_that_is_sent_twice_at_once_is_answered_twice_with_its_job(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    ids, again = world.enrolments(10), world.requester()
    first = submit_rows(slow_db, world.requester(), ids[:5], None)
    with held(owner, LOCK, batch=first.id) as hold:
        both = [threads.go(lambda: submit_rows(slow_db, again, ids, first.id).id) for _ in range(2)]
        await_waiters(world, 2)
        hold.release()
        assert len({one.result(PATIENCE) for one in both}) == 1


def test_nothing_that_others_wait_for_is_locked_while_the_rows_with_faults_are_written(
    db: Database, quick_db: Database, world: World
) -> None:
    """They may be a million: that organisation's jobs and events are admitted meanwhile."""
    request, options = FileRequest(reason="not_required"), Options(leave_out=True)
    content = f"enrolment_id\n{world.enrolment()}\nx\n".encode()
    meanwhile: list[Job] = []

    def keep(*_: object) -> None:
        meanwhile.append(world.submit(quick_db, [world.enrolment("ben")]))

    submit_file(db, world.requester(), request, io.BytesIO(content), options=options, keep_faults=keep)
    assert [job.state for job in meanwhile] == ["queued"]
