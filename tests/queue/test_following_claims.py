"""The next claim is taken in the message that decides a chunk, and only if the chunk is decided there."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.racing import take
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import ChangedMeanwhileError
from worker.ledger import claims, decide
from worker.one_message import Step
from worker.queue.apply import Applied, apply_at_once
from worker.records import Claim

LEASE = timedelta(seconds=30)


def decide_and_follow(db: Database, claim: Claim, *, oldest: bool = False) -> tuple[Applied, Claim | None] | None:
    following = claims.following(claim.chunk_ids[0], budget=1000, lease=LEASE, oldest=oldest)
    return db.run(lambda connection: apply_at_once(connection, claim, following), autocommit=True)


def claimed(world: World) -> list[int]:
    return [row[0] for row in world.run("SELECT id FROM withdrawals.chunks WHERE state = 'claimed' ORDER BY id")]


@pytest.fixture
def two_large_jobs(db: Database, world: World) -> None:
    """Too large to be decided together."""
    for _ in range(2):
        world.submit(db, world.enrolments(300))


@pytest.mark.usefixtures("two_large_jobs")
@pytest.mark.parametrize("oldest", [False, True])
def test_what_is_decided_takes_the_next_claim_with_it(
    db: Database, environment: Settings, world: World, oldest: bool
) -> None:
    first = take(db)
    found = decide_and_follow(db, first, oldest=oldest)
    assert found is not None
    applied, following = found
    assert [one.chunk_id for one in applied.decided] == first.chunk_ids
    assert following is not None and following.is_plain and claimed(world) == following.chunk_ids
    found = decide_and_follow(db, following)
    assert found is not None and found[1] is None, "nothing is left"
    assert claimed(world) == []
    decide_due(db, environment)
    assert_balanced(db)


@pytest.mark.usefixtures("two_large_jobs")
def test_what_has_to_go_the_general_way_takes_nothing(db: Database, environment: Settings, world: World) -> None:
    first = take(db)
    world.run("UPDATE lms.enrolments SET status = 'on_hold' WHERE id = (SELECT min(id) FROM lms.enrolments)")
    assert decide_and_follow(db, first) is None
    assert claimed(world) == first.chunk_ids
    decide_due(db, environment)


@pytest.mark.usefixtures("two_large_jobs")
def test_a_chunk_that_an_earlier_message_has_decided_takes_nothing(db: Database, world: World) -> None:
    """The answer to that message was lost: it has taken the next claim, which nobody knows of until its lease ends."""
    first = take(db)
    assert decide_and_follow(db, first) is not None
    (next_one,) = claimed(world)
    world.submit(db, world.enrolments(300))
    assert decide_and_follow(db, first) is None
    assert claimed(world) == [next_one]


@pytest.mark.usefixtures("two_large_jobs")
def test_what_changed_meanwhile_takes_nothing(db: Database, world: World) -> None:
    """Also where it is noticed behind the claim: that is undone with the rest."""
    first = take(db)
    part = claims.following(first.chunk_ids[0], budget=1000, lease=LEASE).part
    late = Step("late", f"SELECT {decide._require('false')}"), dict[str, Any]()
    with pytest.raises(ChangedMeanwhileError):
        db.run(lambda connection: decide.decide_plain_at_once(connection, first, part, late), autocommit=True)
    assert claimed(world) == first.chunk_ids
