"""Fairness is in the claim: deactivations first, jobs take turns, and nothing waits for ever."""

from datetime import timedelta

from tests.world import World
from worker.config import Settings
from worker.database import Database
from worker.ledger import claims
from worker.queue.drain import OLDEST_EVERY, Drain

LEASE = timedelta(seconds=30)


def claim_jobs(db: Database, world: World, *, oldest: bool = False) -> list[int]:
    """Claim once; the jobs of the chunks taken."""
    with db.begin() as connection:
        claim = claims.claim(connection, budget=5, lease=LEASE, oldest=oldest)
    if claim is None:
        return []
    query = "SELECT job_id FROM withdrawals.chunks WHERE id = ANY(:ids) ORDER BY id"
    return [row[0] for row in world.run(query, ids=claim.chunk_ids)]


def test_two_big_jobs_take_turns(db: Database, world: World) -> None:
    first = world.submit(db, world.enrolments(25), chunk_size=5).id
    second = world.submit(db, world.enrolments(25), chunk_size=5).id
    assert [claim_jobs(db, world) for _ in range(6)] == [[first], [second]] * 3


def test_a_deactivation_goes_before_a_big_job_that_came_first(db: Database, world: World) -> None:
    world.submit(db, world.enrolments(25), chunk_size=5)
    world.enrolment("anna")
    job_id = world.event(db, "deactivated", "anna").job_id
    assert claim_jobs(db, world) == [job_id]


def test_the_oldest_due_chunk_is_taken_when_its_turn_comes(db: Database, world: World) -> None:
    first = world.submit(db, world.enrolments(25), chunk_size=5).id
    claim_jobs(db, world)  # its first chunk; the others have higher numbers than any new job's first
    world.submit(db, world.enrolments(5), chunk_size=5)
    assert claim_jobs(db, world, oldest=True) == [first]
    assert OLDEST_EVERY == 8


def test_many_small_requests_are_claimed_and_decided_together(
    db: Database, world: World, environment: Settings
) -> None:
    """A storm of single requests runs at the speed of sets."""
    jobs = [world.submit(db, [enrolment_id]).id for enrolment_id in world.enrolments(40)]
    assert Drain(db, environment).run() == 1
    assert world.one("SELECT count(DISTINCT token) FROM withdrawals.chunks") == 1
    assert [world.outcomes(job_id).popitem()[1] for job_id in jobs] == ["withdrawn"] * 40


def test_a_full_chunk_is_not_filled_up_with_small_ones(db: Database, world: World) -> None:
    big = world.submit(db, world.enrolments(5), chunk_size=5).id
    small = world.submit(db, world.enrolments(1)).id
    assert claim_jobs(db, world) == [big]
    assert claim_jobs(db, world) == [small]


def test_a_storm_of_deactivations_is_not_diluted_by_older_bulk_chunks(db: Database, world: World) -> None:
    """A claim is filled up in fair order too: the deactivations first, then what room is left."""
    for _ in range(4):
        world.submit(db, world.enrolments(2), chunk_size=2)
    people = [f"person-{number}" for number in range(8)]
    jobs = {world.event(db, "deactivated", person).job_id for person in people}
    with db.begin() as connection:
        claim = claims.claim(connection, budget=8 * claims.PERSON_IDS, lease=LEASE)
    assert claim is not None
    assert claim.more
    query = "SELECT job_id FROM withdrawals.chunks WHERE id = ANY(:ids)"
    assert {row[0] for row in world.run(query, ids=claim.chunk_ids)} == jobs
