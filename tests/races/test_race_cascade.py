"""A cascade of a deactivation, and the person comes back: the siblings stay.

Rule 10: "a person who comes back before it is applied is not withdrawn (`superseded`), also on a late retry or a
redrive of an old dead letter". DESIGN.md §2: "Decide only from rows you hold locked."
"""

from dataclasses import dataclass

import pytest

from schemas.dead_letters import LetterFilter
from schemas.events import PersonEvent
from tests.support.racing import Threads, await_waiters, chunks, decide, hold_enrolments, job_state, take
from tests.world import PATIENCE, World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.dead_letters.runs import preview
from worker.ledger import claimed, person_events
from worker.people import events
from worker.queue.recovery import record_failure


@dataclass(frozen=True, slots=True)
class Cascade:
    """Anna was deactivated; a pathway owns all three of her enrolments; an approver withdraws her from all of it."""

    named: int
    siblings: list[int]
    job_id: int


def _cascade(db: Database, world: World, settings: Settings) -> Cascade:
    pathway = world.pathway()
    ids = [world.enrolment("anna", pathway_id=pathway) for _ in range(3)]
    world.event(db, "deactivated", "anna")
    decide_due(db, settings)
    return _resolve(db, world, ids)


def _resolve(db: Database, world: World, ids: list[int]) -> Cascade:
    (letter_id,) = [letter.id for letter in world.letters() if letter.enrolment_id == ids[0]]
    remedies.resolve(
        db, organisation_id=world.organisation_id, letter_ids=[letter_id], remedy="cascade", note="agreed",
        actor="test:approver", door="cli",
    )  # fmt: skip
    job_id = world.one("SELECT max(id) FROM withdrawals.jobs WHERE source = 'support'")
    return Cascade(ids[0], ids[1:], job_id)


def _status(world: World, cascade: Cascade) -> set[str]:
    return {world.status(enrolment_id) for enrolment_id in (cascade.named, *cascade.siblings)}


@pytest.mark.parametrize("deactivated_again", [False, True])
def test_a_person_who_came_back_before_the_act_is_not_withdrawn_by_a_cascade(
    db: Database, world: World, environment: Settings, deactivated_again: bool
) -> None:
    """A job of the deactivation that came after it stands, though: then all of the pathway is withdrawn."""
    pathway = world.pathway()
    ids = [world.enrolment("anna", pathway_id=pathway) for _ in range(3)]
    world.event(db, "deactivated", "anna")
    decide_due(db, environment)
    world.event(db, "reactivated", "anna")
    if deactivated_again:
        world.event(db, "deactivated", "anna")
        decide_due(db, environment)
    cascade = _resolve(db, world, ids)
    decide_due(db, environment)
    assert _status(world, cascade) == ({"withdrawn"} if deactivated_again else {"in_progress"})
    assert job_state(world, cascade.job_id) == ("completed" if deactivated_again else "superseded")
    assert_balanced(db)


def test_coming_back_closes_the_chunk_of_a_cascade_that_waits(
    db: Database, world: World, environment: Settings
) -> None:
    cascade = _cascade(db, world, environment)
    world.event(db, "reactivated", "anna")
    assert chunks(world, cascade.job_id, "state, counts") == [("superseded", {"superseded": 2})]
    assert job_state(world, cascade.job_id) == "superseded"
    decide_due(db, environment)
    assert _status(world, cascade) == {"in_progress"}
    assert_balanced(db)


def test_a_reactivation_committed_while_the_cascade_waits_wins(
    slow_db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The chunk is locked and cannot be closed from outside; the lock on the person shows the newer event."""
    cascade = _cascade(slow_db, world, environment)
    claim = take(slow_db)
    with slow_db.begin() as connection:
        person_events.lock(connection, world.organisation_id, "anna")
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world)
        event = PersonEvent(type="user.reactivated", external_id="anna")
        events.record_in(connection, world.requester(door="hr:hr"), "hr", event)
    deciding.result(PATIENCE)
    assert _status(world, cascade) == {"in_progress"}
    assert world.active("anna")
    assert job_state(world, cascade.job_id) == "superseded"
    assert_balanced(slow_db)


def test_a_cascade_that_locks_the_person_first_is_applied_and_stays(
    slow_db: Database, owner: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """The reverse order: the reactivation has to wait until the withdrawal has committed."""
    cascade = _cascade(slow_db, world, environment)
    claim = take(slow_db)
    with hold_enrolments(owner, *cascade.siblings) as hold:
        deciding = threads.go(decide, slow_db, claim)
        await_waiters(world, 1)
        coming_back = threads.go(world.event, slow_db, "reactivated", "anna")
        await_waiters(world, 2)
        hold.release()
        deciding.result(PATIENCE)
        assert coming_back.result(PATIENCE).status == "reactivated"
    assert _status(world, cascade) == {"withdrawn"}
    assert job_state(world, cascade.job_id) == "completed"
    assert_balanced(slow_db)


def test_a_cascade_half_of_which_was_done_ends_with_exceptions(
    db: Database, world: World, environment: Settings
) -> None:
    """Split after an error of a row; one half is applied, and the person comes back before the other."""
    cascade = _cascade(db, world, environment)
    together = take(db)
    db.run(lambda connection: claimed.isolate(connection, together))
    for claim in (take(db, budget=1), take(db, budget=1)):
        if world.one("SELECT job_id FROM withdrawals.chunks WHERE id = :id", id=claim.chunk_ids[0]) == cascade.job_id:
            record_failure(db, environment, claim, _error_of_a_row(world))
        else:
            decide(db, claim)
    decide(db, take(db, budget=1))
    world.event(db, "reactivated", "anna")
    decide_due(db, environment)
    assert sorted(world.status(one) for one in cascade.siblings) == ["in_progress", "withdrawn"]
    assert job_state(world, cascade.job_id) == "completed_with_exceptions"
    assert_balanced(db)


def test_a_letter_of_a_cascade_is_superseded_like_one_of_the_deactivation(
    db: Database, world: World, environment: Settings
) -> None:
    """Another pathway took a sibling over: it has a letter of the cascade, which a late override does not withdraw."""
    cascade = _cascade(db, world, environment)
    other = world.pathway("Other")
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :i", p=other, i=cascade.siblings[0])
    decide_due(db, environment)
    world.event(db, "reactivated", "anna")
    (letter_id,) = [row.id for row in world.letters() if row.state == "open" and row[3] == cascade.siblings[0]]
    wanted: dict[str, object] = {"organisation_id": world.organisation_id, "letter_ids": [letter_id]}
    remedies.resolve(db, remedy="override", note="agreed", actor="test:approver", **wanted)  # type: ignore[arg-type]
    decide_due(db, environment)
    assert world.status(cascade.siblings[0]) == "in_progress"
    assert world.outcomes(cascade.job_id)[cascade.siblings[0]] == "superseded"
    assert_balanced(db)


def test_what_a_letter_shows_of_a_cascade_knows_of_the_newer_event(
    db: Database, world: World, environment: Settings
) -> None:
    """The preview of an act says `superseded` where the letter was opened by the cascade."""
    cascade = _cascade(db, world, environment)
    strange = cascade.siblings[0]
    world.run("UPDATE withdrawals.dead_letters SET state = 'discarded', closed_at = now(), closed_by = 'x',"
              " remedy = 'discard' WHERE enrolment_id = :i", i=strange)  # fmt: skip
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :i", p=world.pathway("Other"), i=strange)
    decide_due(db, environment)
    world.event(db, "reactivated", "anna")
    wanted = LetterFilter(job_id=cascade.job_id)
    found = preview(db, organisation_id=world.organisation_id, act="redrive", wanted=wanted)
    assert found["outcomes"] == {"superseded": 1}


def _error_of_a_row(world: World) -> Exception:
    try:
        world.run("SELECT 1 / 0")
    except Exception as error:
        return error
    raise AssertionError
