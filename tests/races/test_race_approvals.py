"""Two decisions on one approval at once, and decisions against what they are about: one of them counts, once.

Real transactions at one barrier; "exactly once under concurrent approve, reject, withdraw and expire".
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.approvals.office import ADA, EVE, ZOE, Office
from tests.support.racing import Threads, await_waiters, held, job_state
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ConflictError, SecondPersonNeededError
from worker.jobs import control


def ask(office: Office, letters: list[int]) -> int:
    with pytest.raises(SecondPersonNeededError) as asked:
        office.resolve(letters)
    return asked.value.approval_id


def test_of_all_decisions_at_once_one_counts_and_the_act_is_done_once(
    slow_db: Database,
    world: World,
    environment: Settings,
    threads: Threads,
    withdrawals: Callable[[], Counter[int]],
) -> None:
    office, ends = Office(slow_db, world, environment), Counter[str]()
    office.rules(override=0)
    for _ in range(6):
        letters = office.letters()
        approval = ask(office, letters)
        results = threads.together(
            partial(office.approve, approval, EVE),
            partial(office.approve, approval, ZOE),
            partial(office.reject, approval, ZOE),
            partial(office.withdraw, approval),
        )
        end = office.show(approval).state
        assert end in ("approved", "rejected", "withdrawn")
        assert sum(not isinstance(result, Exception) for result in results) == 1
        assert all(isinstance(result, ConflictError) for result in results if isinstance(result, Exception)), results
        decide_due(slow_db, environment)
        (letter,) = [one for one in world.letters() if one.id in letters]
        assert letter.state == ("resolved" if end == "approved" else "open")
        ends[end] += 1
    assert set(withdrawals().values()) <= {1}
    assert sum(withdrawals().values()) == ends["approved"]
    acts = Counter(action for _, action in office.audited())
    assert acts["dead_letter.override"] == acts["approval.approve"] == ends["approved"]
    assert_balanced(slow_db)


def test_the_same_request_at_once_is_asked_for_once(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    office = Office(slow_db, world, environment)
    office.rules(override=0)
    letters = office.letters(2)
    results = threads.together(*[partial(office.resolve, letters, who) for who in (ADA, ADA, EVE, ZOE)])
    assert all(isinstance(result, SecondPersonNeededError) for result in results)
    assert world.one("SELECT count(*) FROM withdrawals.approvals") == 1


def test_a_release_that_is_approved_while_the_job_is_cancelled_ends_as_one_of_both(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    office = Office(slow_db, world, environment)
    office.rules(release=0)
    for _ in range(4):
        job = office.held_job()
        with pytest.raises(SecondPersonNeededError) as asked:
            office.release(job)
        approved, cancelled = threads.together(
            partial(office.approve, asked.value.approval_id),
            partial(control.cancel, slow_db, **office.organisation, job_id=job.id, actor="test:x"),
        )
        assert not isinstance(cancelled, Exception)
        assert job_state(world, job.id) == "cancelled", "a released job can be cancelled too"
        released = world.one(
            "SELECT count(*) FROM withdrawals.audit WHERE action = 'job.release' AND job_id = :id", id=job.id
        )
        state = office.show(asked.value.approval_id).state
        assert (state, released) == (("pending", 0) if isinstance(approved, ConflictError) else ("approved", 1))
        assert_balanced(slow_db)


def test_an_approval_that_expires_while_its_approver_waits_does_nothing(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The approver waits for the settings; by the time they come, it is too late, and nothing of the act stays."""
    office = Office(slow_db, world, environment)
    office.rules(override=0)
    letters = office.letters()
    approval = ask(office, letters)
    with held(owner, "SELECT 1 FROM withdrawals.organisation_settings FOR UPDATE") as hold:
        approving = threads.go(office.approve, approval)
        await_waiters(world, 1)
        world.force("UPDATE withdrawals.approvals SET expires_at = clock_timestamp() WHERE id = :id", id=approval)
        hold.release()
        error = approving.exception(PATIENCE)
    assert isinstance(error, ConflictError)
    assert "expired" in str(error)
    assert (office.show(approval).state, office.states()) == ("expired", ["open"])
    assert_balanced(slow_db)


def test_letters_that_somebody_resolves_at_once_are_done_once(
    slow_db: Database,
    world: World,
    environment: Settings,
    threads: Threads,
    withdrawals: Callable[[], Counter[int]],
) -> None:
    """An approval against a `keep` of the same letter, which needs nobody else."""
    office = Office(slow_db, world, environment)
    office.rules(override=0)
    for _ in range(4):
        letters = office.letters()
        approval = ask(office, letters)
        approved, kept = threads.together(
            partial(office.approve, approval), partial(office.resolve, letters, ZOE, "keep")
        )
        assert isinstance(approved, ConflictError) != isinstance(kept, ConflictError)
        decide_due(slow_db, environment)
    assert set(office.states()) == {"resolved"}
    assert set(withdrawals().values()) <= {1}
    assert_balanced(slow_db)
