"""The platform changes a row while a chunk waits for it; and a row that it keeps locked.

DESIGN.md §2: "Decide only from rows you hold locked." A decision from the statement's own snapshot would not see
what committed while it waited.
"""

from collections.abc import Iterator

import pytest

from tests.support.racing import (
    DECIDE,
    Threads,
    await_waiters,
    decide,
    held,
    hold_enrolments,
    job_state,
    take,
    workers,
)
from tests.support.sessions import Sessions, give_up_waiting
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.ledger import decide as short

CHANGES = {
    "it is mastered": ("status = 'mastered'", "in_progress", False, "enrolment_ended"),
    "it takes an unknown status": ("status = 'on_hold'", "in_progress", False, "unknown_status"),
    "it becomes active": ("status = 'in_progress'", "on_hold", False, "withdrawn"),
    "the platform withdraws it": ("status = 'withdrawn'", "in_progress", False, "already_withdrawn"),
    "a pathway takes it": ("pathway_id = :pathway", "in_progress", False, "pathway_owned"),
    "its pathway lets go": ("pathway_id = NULL", "in_progress", True, "withdrawn"),
    "its learner goes on": ("status = 'in_progress'", "no_attempts", False, "withdrawn"),
    "only its progress changes": ("due_at = now()", "in_progress", False, "withdrawn"),
    "it is opened again": ("status = 'in_progress'", "mastered", False, "withdrawn"),
}


@pytest.fixture(params=["that it is", "before 18"])
def either_statement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain chunk is decided by a statement of its own where an update returns what a row was before."""
    if request.param == "before 18":
        monkeypatch.setattr(short, "RETURNS_OLD", 10**9)


@pytest.mark.part(4)
@pytest.mark.parametrize(
    ("by", "either_statement"),
    [*((by, "that it is") for by in DECIDE), ("list at once", "before 18")],
    indirect=["either_statement"],
)
@pytest.mark.usefixtures("either_statement")
@pytest.mark.parametrize("change", CHANGES)
def test_a_chunk_that_waited_for_a_row_decides_by_what_it_is_now(
    slow_db: Database, owner: Database, world: World, threads: Threads, change: str, by: str
) -> None:
    """The change commits while the chunk waits; its neighbour is withdrawn in any case."""
    assignment, before, owned, want = CHANGES[change]
    pathway = world.pathway()
    changed = world.enrolment("anna", before, pathway_id=pathway if owned else None)
    neighbour = world.enrolment("anna")
    if not by.startswith("person"):
        job_id = world.submit(slow_db, [changed, neighbour]).id
    else:
        job_id = world.event(slow_db, "deactivated", "anna").job_id or 0
    claim = take(slow_db)
    statement = f"UPDATE lms.enrolments SET {assignment}, progress = :pathway * 0 WHERE id = :id"
    with held(owner, statement, id=changed, pathway=pathway) as hold:
        deciding = threads.go(DECIDE[by], slow_db, claim)
        await_waiters(world)
        hold.release()
        deciding.result(PATIENCE)
    outcomes = world.outcomes(job_id)
    if by.startswith("person") and want in (
        "enrolment_ended",
        "already_withdrawn",
    ):  # not "every enrolment … neither ended"
        assert outcomes == {neighbour: "withdrawn"}
    else:
        assert outcomes == {changed: want, neighbour: "withdrawn"}
    assert [letter.code for letter in world.letters()] == [want] * (want in ("pathway_owned", "unknown_status"))
    assert (world.status(changed) == "withdrawn") == (want in ("withdrawn", "already_withdrawn"))
    if want == "withdrawn":
        seen = "SELECT prior_status FROM withdrawals.outcomes WHERE enrolment_id = :id"
        assert world.one(seen, id=changed) == "in_progress", "as it was when it was locked"
    assert_balanced(slow_db)


@pytest.mark.usefixtures("either_statement")
def test_an_enrolment_that_is_deleted_while_a_chunk_waits_for_it_is_not_found(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    """The row is gone once the lock is given; support learns of it."""
    gone, neighbour = world.enrolments(2)
    job = world.submit(slow_db, [gone, neighbour])
    claim = take(slow_db)
    with held(owner, "DELETE FROM lms.enrolments WHERE id = :id", id=gone) as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        hold.release()
        deciding.result(PATIENCE)
    assert world.outcomes(job.id) == {gone: "not_found", neighbour: "withdrawn"}
    assert [letter.code for letter in world.letters()] == ["not_found"]
    assert_balanced(slow_db)


@pytest.fixture
def impatient(sessions: Sessions, patient: Settings) -> Iterator[Database]:
    """Connections whose locks time out after a second."""
    with sessions.database(patient, pool_size=4) as database:
        give_up_waiting(database, 1)
        yield database


def test_the_neighbours_of_a_row_that_the_platform_keeps_locked_do_not_wait_for_it(
    db: Database, impatient: Database, owner: Database, world: World, environment: Settings
) -> None:
    """A lock timeout, a second one, then halves until the locked row is alone; it is done after the lock goes."""
    settings = environment.model_copy(update={"max_attempts": 50, "backoff_max_seconds": 0.1})
    ids = world.enrolments(8)
    locked = ids[2]
    job = world.submit(db, ids)
    with hold_enrolments(owner, locked) as hold, workers(impatient, settings, 3):
        eventually(lambda: len(world.outcomes(job.id)) == 7, what="seven of eight decided")
        assert locked not in world.outcomes(job.id)
        assert_balanced(db)
        assert job_state(world, job.id) == "queued"
        hold.release()
        eventually(lambda: job_state(world, job.id) == "completed", what="the job completed")
    assert world.outcomes(job.id) == dict.fromkeys(ids, "withdrawn")
    faults = world.run("SELECT DISTINCT result, error_class FROM withdrawals.attempts")
    assert [tuple(row) for row in faults] == [("failed", "LockNotAvailable")]
    sizes = world.run("SELECT size FROM withdrawals.chunks WHERE state = 'split' ORDER BY size DESC")
    assert [row[0] for row in sizes] == [8, 4, 2]
    assert world.letters() == []
    assert_balanced(db)
