"""Everything at once: producers, HR, support, the platform, workers, dying workers and two sweeps.

No single interleaving is aimed at here; the other files do that. What has to hold at every moment is asked at every
moment, and what has to hold in the end is asked in the end.
"""

import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.support.racing import Threads, always_balanced, due_now, leases_run_out, workers
from tests.world import PATIENCE, World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.errors import ConflictError
from worker.jobs import control
from worker.ledger import claims
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
PEOPLE, ROUNDS = (30, 25) if FULL else (16, 10)


class Actors:
    """Who acts on the platform and on the service, each in a thread and an order of their own."""

    def __init__(self, db: Database, world: World, relay: Relay, seed: int) -> None:
        self.db, self.world, self.relay, self.seed = db, world, relay, seed
        self.people = [f"p{number}" for number in range(PEOPLE)]
        self.pathway = world.pathway()
        self.ids = [
            world.enrolment(person, pathway_id=self.pathway if number == 0 else None)
            for person in self.people
            for number in range(3)
        ]
        self.last_event: dict[str, str] = {}
        self._numbers = itertools.count(seed * 1000)
        self._over = threading.Event()

    @contextmanager
    def around(self, threads: Threads) -> Iterator[None]:
        """Those who act until the block ends; in it act those who have so much to do and no more."""
        acts = [self._support, self._platform, self._dying_worker, self._sweep, self._sweep]
        background = [threads.go(act, self._order()) for act in acts]
        try:
            yield
        finally:
            self._over.set()
        for future in background:
            future.result(PATIENCE)

    def act(self, threads: Threads) -> None:
        """Two producers and two HR systems, to the end of what they have to say."""
        acting = [threads.go(self._produce, self._order()) for _ in range(2)]
        acting += [threads.go(self._human_resources, self._order(), self.people[half::2]) for half in range(2)]
        for future in acting:
            future.result(PATIENCE)

    def _order(self) -> random.Random:
        return random.Random(next(self._numbers))

    def _produce(self, order: random.Random) -> None:
        for _ in range(ROUNDS):
            wanted = order.sample([*self.ids, max(self.ids) + 7], 12)
            job = self.world.submit(self.db, wanted, chunk_size=order.choice([1, 3, 20]))
            if order.random() < 0.2:
                control.cancel(self.db, organisation_id=job.organisation_id, job_id=job.id, actor="test:admin")

    def _human_resources(self, order: random.Random, people: list[str]) -> None:
        for _ in range(ROUNDS):
            person, kind = order.choice(people), order.choice(["deactivated", "reactivated"])
            self.world.event(self.db, kind, person)
            self.last_event[person] = kind

    def _support(self, order: random.Random) -> None:
        subject: dict[str, Any] = {"organisation_id": self.world.organisation_id, "actor": "test:support"}
        while not self._over.wait(0.01):
            live = [letter.id for letter in self.world.letters() if letter.state == "open"]
            chosen = order.sample(live, min(len(live), 3))
            with suppress(ConflictError):  # it was just redriven by somebody else
                if chosen and order.random() < 0.8:
                    remedies.redrive(self.db, letter_ids=chosen, **subject)
                else:
                    remedies.discard(self.db, letter_ids=chosen[:1], **subject)

    def _platform(self, order: random.Random) -> None:
        changes = [
            "status = 'mastered'",
            "pathway_id = NULL",
            f"pathway_id = {self.pathway}",
            "progress = progress + 1",
        ]
        while not self._over.wait(0.02):
            (change,) = order.choices(changes, [1, 2, 2, 2])
            statement = f"UPDATE lms.enrolments SET {change} WHERE id = :id AND status = 'in_progress'"
            self.world.run(statement, id=order.choice(self.ids))

    def _dying_worker(self, _: random.Random) -> None:
        while not self._over.wait(0.05):
            with self.db.begin() as connection:
                claims.claim(connection, budget=20, lease=timedelta(milliseconds=1))

    def _sweep(self, _: random.Random) -> None:
        while not self._over.wait(0.03):
            self.relay.sweep()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=[pytest.mark.long])])
def test_everything_at_once_loses_nothing_and_does_nothing_twice(
    slow_db: Database,
    world: World,
    patient: Settings,
    threads: Threads,
    withdrawals: Callable[[], Counter[int]],
    seed: int,
) -> None:
    """The books are open all the while; in the end every job has ended, and each withdrawal has its outcome."""
    settings = patient.model_copy(update={"backoff_max_seconds": 0.02, "chunk_size": 20, "max_claims": 3})
    broker = make_broker(patient.broker_url.get_secret_value())
    actors = Actors(slow_db, world, Relay(slow_db, broker, settings), seed)
    with workers(slow_db, settings, 3), always_balanced(slow_db), actors.around(threads):
        actors.act(threads)

    def done() -> bool:
        leases_run_out(world)
        due_now(world)
        actors.relay.sweep()
        decide_due(slow_db, settings)
        return bool(world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0)

    eventually(done, what="every job ended")
    broker.close()
    broker.client.close()
    assert world.one("SELECT count(*) FROM withdrawals.chunks WHERE closed_at IS NULL") == 0
    seen = withdrawals()
    assert set(seen.values()) == {1}
    rows = world.run("SELECT enrolment_id FROM withdrawals.outcomes WHERE outcome = 'withdrawn'")
    assert Counter(row[0] for row in rows) == seen
    for person, kind in actors.last_event.items():
        assert world.active(person) is (kind == "reactivated")
    assert_balanced(slow_db)
