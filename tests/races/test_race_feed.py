"""Readers of the feed while transactions that write into it overlap.

Nothing is skipped that commits late, and the events of an enrolment come in the order in which they happened, also
where the numbers of the transactions are in another order.
"""

import threading
from collections import Counter

from schemas.reinstate import ReinstateRequest
from tests.support.racing import Threads, await_waiters, decide, held, hold_enrolments, take, workers
from tests.world import PATIENCE, World, assert_balanced, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs.reinstate import reinstate
from worker.ledger import feed
from worker.ledger.feed import Place


class Reader:
    """Another system: a cursor, and what it made of the events."""

    def __init__(self, db: Database, world: World) -> None:
        self.db, self.organisation_id = db, world.organisation_id
        self.place: Place | None = None
        self.events: list[tuple[str, int]] = []
        self.ids: list[str] = []

    def read(self, *, limit: int = 1000) -> list[tuple[str, int]]:
        """What is new to it."""
        with self.db.begin() as connection:
            page = feed.read(connection, self.organisation_id, self.place, limit=limit)
        new = [(event.type.removeprefix("enrolment."), event.data.enrolment_id) for event in page.events]
        self.place = page.place
        self.events += new
        self.ids += [event.id for event in page.events]
        return new

    def withdrawn(self) -> set[int]:
        """The enrolments that are withdrawn, as it has to believe."""
        last = {enrolment_id: what for what, enrolment_id in self.events}
        return {enrolment_id for enrolment_id, what in last.items() if what == "withdrawn"}


def number(db: Database) -> int:
    return db.run(feed.number)


def test_a_transaction_that_commits_late_is_not_skipped(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    late, early = world.enrolment(), world.enrolment("ben")
    reader = Reader(slow_db, world)
    world.submit(slow_db, [late])
    first = take(slow_db)
    world.submit(slow_db, [early])
    second = take(slow_db)
    with hold_enrolments(owner, late) as hold:
        waiting = threads.go(decide, slow_db, first)
        await_waiters(world)
        decide(slow_db, second)
        number(slow_db)
        assert reader.read() == [("withdrawn", early)]
        hold.release()
        waiting.result(PATIENCE)
    number(slow_db)
    assert reader.read() == [("withdrawn", late)]


def test_an_undo_and_a_later_withdrawal_keep_their_order_whichever_began_first(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    brake, enrolment = world.enrolment(), world.enrolment("ben")
    reader = Reader(slow_db, world)
    job = world.submit(slow_db, [enrolment])
    decide(slow_db, take(slow_db))
    number(slow_db)
    world.submit(slow_db, [brake, enrolment], chunk_size=1)
    later = take(slow_db)
    reinstate(slow_db, world.requester(), job.id, ReinstateRequest())
    undo = take(slow_db)
    transaction = "SELECT xmin::text::bigint FROM withdrawals.feed WHERE position IS NULL"
    with hold_enrolments(owner, brake) as hold:
        waiting = threads.go(decide, slow_db, later)  # it has its number, and waits before it decides
        await_waiters(world)
        decide(slow_db, undo)
        hold.release()
        waiting.result(PATIENCE)
    of_undo, of_later = (row[0] for row in world.run(f"{transaction} ORDER BY id"))
    assert of_later < of_undo, "in the order of transactions the withdrawal would come first"
    number(slow_db)
    assert reader.read() == [
        ("withdrawn", enrolment), ("reinstated", enrolment), ("withdrawn", brake), ("withdrawn", enrolment)
    ]  # fmt: skip
    assert world.status(enrolment) == "withdrawn"


def test_a_position_that_a_reader_may_have_seen_is_never_given_anew(
    slow_db: Database, owner: Database, world: World, threads: Threads
) -> None:
    entry = "INSERT INTO withdrawals.feed (organisation_id, chunk_ids, size) VALUES (:o, '{}', 0)"
    with held(owner, entry, o=world.organisation_id) as late:
        world.run(entry, o=world.organisation_id)
        with slow_db.begin() as connection:
            feed.number(connection)
            late.release()
            other = threads.go(number, slow_db)
            await_waiters(world)
    assert other.result(PATIENCE) == 1
    rows = world.run("SELECT position FROM withdrawals.feed ORDER BY id")
    assert [row.position for row in rows] == [2, 1]


def test_every_reader_rebuilds_what_workers_do_at_the_same_time(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    ids = world.enrolments(60)
    over = threading.Event()

    def keep_numbering() -> None:
        while not over.is_set():
            number(db)

    def keep_reading(limit: int) -> Reader:
        reader = Reader(db, world)
        while not over.is_set():
            reader.read(limit=limit)
        while reader.read(limit=limit):
            pass
        return reader

    def is_over(*jobs: int) -> bool:
        found = world.run("SELECT finished_at FROM withdrawals.jobs WHERE id = ANY(:ids)", ids=list(jobs))
        return all(row[0] for row in found)

    with workers(db, environment, 3):
        relays = [threads.go(keep_numbering) for _ in range(2)]
        readers = [threads.go(keep_reading, limit) for limit in (3, 1000)]
        try:
            jobs = [world.submit(db, ids[n::2], chunk_size=4).id for n in range(2)]
            jobs += [world.submit(db, ids, chunk_size=7).id]
            eventually(lambda: is_over(*jobs))
            undone = [reinstate(db, world.requester(), job, ReinstateRequest(), chunk_size=5).job.id for job in jobs]
            again = [world.submit(db, ids[:30], chunk_size=1).id for _ in range(2)]
            eventually(lambda: is_over(*undone, *again))
            eventually(lambda: not world.one("SELECT count(*) FROM withdrawals.feed WHERE position IS NULL"))
        finally:
            over.set()
    for relay in relays:
        relay.result(PATIENCE)
    expected = {row.id for row in world.run("SELECT id FROM lms.enrolments WHERE status = 'withdrawn'")}
    for found in readers:
        reader = found.result(PATIENCE)
        assert reader.withdrawn() == expected
        assert max(Counter(reader.ids).values()) == 1, "no event comes twice"
    assert world.one("SELECT max(position) = count(*) FROM withdrawals.feed"), "positions have no gaps"
    assert_balanced(db)
