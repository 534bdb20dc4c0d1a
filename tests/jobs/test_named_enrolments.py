"""The enrolments that a job names: all of them, each once, whatever has become of its chunks."""

from tests.support.racing import take
from tests.world import World
from worker.database import Database
from worker.jobs import show
from worker.ledger import claimed


def test_an_enrolment_of_a_chunk_that_was_split_is_listed_once(world: World, db: Database) -> None:
    ids = world.enrolments(4)
    job_id = world.submit(db, ids).id
    claim = take(db)
    with db.begin() as connection:
        (chunk,) = claimed.lock(connection, claim)
        assert claimed.split(connection, chunk, claim.token)
    with db.begin() as connection:
        found = show.list_enrolments(connection, world.organisation_id, job_id, after=0, limit=10)
        behind = show.list_enrolments(connection, world.organisation_id, job_id, after=ids[0], limit=2)
    assert [one.enrolment_id for one in found] == ids
    assert [one.enrolment_id for one in behind] == ids[1:3]
