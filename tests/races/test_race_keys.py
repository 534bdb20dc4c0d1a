"""One key, two meanings at the same moment: a job's request and a person's event. The database lets one of them in.

CONTRACT: "Idempotency: unique per (organisation, door, key)". Jobs and receipts are two tables, so each looked for the
other's key in vain while neither had committed.
"""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy.exc

from schemas.events import PersonEvent
from schemas.jobs import JobRequest
from tests.support.racing import Threads, await_waiters, outcome
from tests.world import World, assert_balanced
from worker.database import Database
from worker.errors import IdempotencyConflictError
from worker.jobs import submit
from worker.jobs.selection import Ids
from worker.people import events
from worker.records import NewJob

KEY = "the-same"
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def _job(world: World) -> NewJob:
    who = world.requester(KEY)
    return NewJob(
        organisation_id=who.organisation_id, requested_by=who.actor, door=who.door, key=who.key, request_hash=b"job",
        reason="not_required", source="bulk", effective_at=TOMORROW,
    )  # fmt: skip


def _count(world: World) -> tuple[int, int]:
    found = world.run("SELECT (SELECT count(*) FROM withdrawals.jobs), (SELECT count(*) FROM withdrawals.receipts)")
    return found[0][0], found[0][1]


@pytest.mark.parametrize("kind", ["reactivated", "deactivated"])
def test_an_event_finds_its_key_taken_by_a_job_that_commits_meanwhile(
    slow_db: Database, world: World, threads: Threads, kind: str
) -> None:
    selection = Ids(world.enrolments(1))

    def send() -> None:
        event = PersonEvent.model_validate({"type": f"user.{kind}", "external_id": "anna"})
        events.record(slow_db, world.requester(KEY), "cli", event)

    with slow_db.begin() as connection:
        submit.accept(connection, _job(world), selection, chunk_size=1000)
        sending = threads.go(send)
        await_waiters(world)
    assert isinstance(outcome(sending), IdempotencyConflictError)
    assert _count(world) == (1, 0)
    assert world.one("SELECT count(*) FROM withdrawals.person_events") == 0, "nothing of the event was kept"
    assert_balanced(slow_db)


@pytest.mark.parametrize("kind", ["reactivated", "deactivated"])
def test_a_job_finds_its_key_taken_by_an_event_that_commits_meanwhile(
    slow_db: Database, world: World, threads: Threads, kind: str
) -> None:
    request = JobRequest(reason="not_required", enrolment_ids=world.enrolments(1), effective_at=TOMORROW)
    with slow_db.begin() as connection:
        event = PersonEvent.model_validate({"type": f"user.{kind}", "external_id": "anna"})
        events.record_in(connection, world.requester(KEY), "cli", event)
        submitting = threads.go(submit.submit, slow_db, world.requester(KEY), request)
        await_waiters(world)
    assert isinstance(outcome(submitting), IdempotencyConflictError)
    assert _count(world) == (int(kind == "deactivated"), 1)
    assert_balanced(slow_db)


def test_together_exactly_one_of_them_gets_the_key(db: Database, world: World, threads: Threads) -> None:
    request = JobRequest(reason="not_required", enrolment_ids=world.enrolments(1))
    for number in range(10):
        who = world.requester(f"key-{number}")
        event = PersonEvent(type="user.reactivated", external_id=f"person-{number}")
        results = threads.together(
            lambda who=who: submit.submit(db, who, request),  # type: ignore[misc]
            lambda who=who, event=event: events.record(db, who, "cli", event),  # type: ignore[misc]
        )
        refused = [result for result in results if isinstance(result, Exception)]
        assert [type(error) for error in refused] == [IdempotencyConflictError]
    assert sum(_count(world)) == 10


def test_the_database_itself_refuses_a_second_meaning(db: Database, world: World) -> None:
    """Whatever code writes it, of any version."""
    events.record(db, world.requester(KEY), "cli", PersonEvent(type="user.reactivated", external_id="anna"))
    with pytest.raises(sqlalchemy.exc.OperationalError, match="this key has been used meanwhile"):
        world.run(
            """INSERT INTO withdrawals.jobs (organisation_id, reason, source, requested_by, door, idempotency_key,
                request_hash, state, accepted, effective_at)
            VALUES (:o, 'not_required', 'bulk', 'x', 'cli', :k, '', 'scheduled', 0, now())""",
            o=world.organisation_id,
            k=KEY,
        )
