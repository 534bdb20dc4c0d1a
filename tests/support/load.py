"""Work that is slow enough to be hit by a fault, a service of several processes, and what must come of it."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Self
from uuid import UUID

from sqlalchemy.exc import OperationalError

from ops.local.supervisor import Supervisor
from schemas.catalogue import Outcome
from schemas.jobs import JobRequest
from tests.support.processes import CHILDREN, RELAY, WORKER
from tests.world import World, assert_balanced, eventually
from worker.database import Database
from worker.jobs.submit import Requester, submit
from worker.rules import ENDED

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
"""Read at import: a test's environment begins without the service's variables."""

SIZE = 10_000 if FULL else 400
"""Enrolments of the bulk job."""
KILLS = 30 if FULL else 3
DEADLINE = 600.0 if FULL else 240.0
"""Seconds until everything must be decided, restarts and leases included."""


@contextmanager
def service(more: Mapping[str, str] | None = None) -> Iterator[Supervisor]:
    """Two workers and two relays; whatever dies is started again."""
    commands = {"worker-a": WORKER, "worker-b": WORKER, "relay-a": RELAY, "relay-b": RELAY}
    with Supervisor(commands, {**CHILDREN, **(more or {})}) as running:
        yield running


def slow_platform(world: World, seconds: float = 0.004) -> None:
    """Let every withdrawal take its time, so that faults hit it, and let the platform keep its own count."""
    world.run("CREATE TABLE lms.changes (enrolment_id bigint, before text, after text)")
    world.run(f"""
        CREATE FUNCTION lms.slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            PERFORM pg_sleep({seconds:f});
            INSERT INTO lms.changes VALUES (new.id, old.status, new.status);
            RETURN new;
        END $$""")
    world.run("CREATE TRIGGER slow BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION lms.slow()")


@dataclass
class Load:
    """A bulk job and a stream of single requests over one platform, and what must come of them."""

    world: World
    db: Database
    random: Random
    active: list[int] = field(default_factory=list)
    owned: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    jobs: dict[int, list[int]] = field(default_factory=dict)
    repeated: int = 0
    errors: list[BaseException] = field(default_factory=list)
    all_submitted: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def over(cls, world: World, db: Database, *, size: int = SIZE) -> Self:
        load = cls(world, db, Random(size))
        load.active = world.enrolments(size * 8 // 10)
        load.ended = world.enrolments(size // 10, ENDED[0])
        load.owned = world.enrolments(size // 10)
        pathway = world.pathway()
        world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=pathway, ids=load.owned)
        return load

    @property
    def ids(self) -> list[int]:
        return sorted([*self.active, *self.owned, *self.ended])

    @contextmanager
    def submitted_meanwhile(self) -> Iterator[None]:
        """Submit everything in another thread; every producer's error is raised at the end."""
        thread = threading.Thread(target=self._submit_all, name="producer")
        thread.start()
        try:
            yield
        finally:
            thread.join(DEADLINE)
        assert not thread.is_alive()
        if self.errors:
            raise self.errors[0]

    def _submit_all(self) -> None:
        """The first half as singles (some by a repeated key, some a second time by another), all of it in bulk."""
        singles = self.random.sample(self.ids, len(self.ids) // 4)
        try:
            for number, enrolment_id in enumerate(singles):
                if number == len(singles) // 2:
                    self.submit("bulk", [*self.ids, *self.ids[:10]])
                self.submit(f"single-{enrolment_id}", [enrolment_id])
                if number % 5 == 0:
                    self.submit(f"single-{enrolment_id}", [enrolment_id], again=True)
                if number % 7 == 0:
                    self.submit(f"second-{enrolment_id}", [enrolment_id])
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.all_submitted.set()

    def submit(self, key: str, ids: list[int], *, again: bool = False) -> None:
        """Submit as a producer would who cannot know whether it was heard the first time."""
        request = JobRequest(reason="not_required", enrolment_ids=ids)
        who = Requester(self.world.organisation_id, "test:producer", "cli", key)
        done = submit(self.db, who, request, chunk_size=40)
        if again:
            assert not done.created
            assert done.job.id in self.jobs
            self.repeated += 1
        self.jobs[done.job.id] = sorted(set(ids))

    def hit(self) -> bool:
        """Whether there is something to hit now: a decision is being made; or it is too late for that."""
        return work_in_hand(self.world) or self.finished()

    def moments(self, count: int) -> Iterator[int]:
        """Wait for so many moments of the run, each in the middle of a decision, at random stages of the work."""
        stages = sorted(self.random.randrange(len(self.ids) * 3 // 4) for _ in range(count))
        for number, stage in enumerate(stages):
            eventually(partial(self._has_decided, stage), within=DEADLINE, what=f"{stage} outcomes")
            eventually(self.hit, within=DEADLINE, what="work in hand")
            yield number

    def finished(self) -> bool:
        """Whether every job that will be has ended; False also while the database is away."""
        if not self.all_submitted.is_set():
            return False
        try:
            return bool(self.world.one("SELECT count(*) FROM withdrawals.jobs WHERE finished_at IS NULL") == 0)
        except OperationalError:
            return False

    def _has_decided(self, stage: int) -> bool:
        try:
            return int(self.world.one("SELECT count(*) FROM withdrawals.outcomes")) >= stage
        except OperationalError:
            return False

    def assert_exactly_as_expected(self) -> None:
        """Every job has the outcomes that it must have, every enrolment was withdrawn once, the books balance."""
        eventually(self.finished, within=DEADLINE, what="all jobs finished")
        self.db.engine.dispose()  # of connections to a server that was restarted
        assert self.repeated
        assert self.world.one("SELECT count(*) FROM withdrawals.jobs") == len(self.jobs)
        of_job: dict[int, dict[int, str]] = {job_id: {} for job_id in self.jobs}
        for job_id, enrolment_id, outcome in self.world.run(
            "SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes"
        ):
            of_job[job_id][enrolment_id] = outcome
        active, owned = set(self.active), set(self.owned)
        for job_id, ids in self.jobs.items():
            assert sorted(of_job[job_id]) == ids
            for enrolment_id, outcome in of_job[job_id].items():
                if enrolment_id in active:
                    assert outcome in (Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN)
                else:
                    want = Outcome.PATHWAY_OWNED if enrolment_id in owned else Outcome.ENROLMENT_ENDED
                    assert outcome == want
        withdrawn = sorted(
            row[0] for row in self.world.run("SELECT enrolment_id FROM withdrawals.outcomes WHERE outcome='withdrawn'")
        )
        assert withdrawn == sorted(self.active), "each active enrolment has one outcome `withdrawn`"
        changes = sorted(tuple(row) for row in self.world.run("SELECT * FROM lms.changes"))
        assert changes == [(enrolment_id, "in_progress", "withdrawn") for enrolment_id in sorted(self.active)]
        letters = [(letter.code, letter.state, letter.enrolment_id) for letter in self.world.letters()]
        assert sorted(letters) == [("pathway_owned", "open", enrolment_id) for enrolment_id in sorted(self.owned)]
        assert_balanced(self.db)


def work_in_hand(world: World) -> bool:
    """Whether a worker has claimed something and is deciding it now."""
    return bool(
        world.one("""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event = 'PgSleep'""")
    )


def leader(world: World) -> UUID | None:
    """The relay that leads, by the record; None: none does."""
    found = world.one("SELECT process_id FROM withdrawals.leader")
    assert found is None or isinstance(found, UUID)
    return found
