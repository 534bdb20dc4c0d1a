"""Work that is slow enough to be hit by a fault, a service of several processes, and what must come of it."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import Random
from typing import Self
from uuid import UUID

from sqlalchemy.exc import DBAPIError, OperationalError

from ops.local.supervisor import Supervisor
from schemas.catalogue import Outcome
from schemas.jobs import JobRequest
from tests.support.processes import CHILDREN, RELAY, WORKER
from tests.world import World, eventually
from worker.database import Database
from worker.jobs.submit import Requester, submit
from worker.reports.books import check
from worker.rules import ENDED

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
"""Read at import: a test's environment begins without the service's variables."""

MORE = 10 if FULL else 1
"""How many times the examples of a property test in the suite."""
SIZE = 3_000 if FULL else 120
"""Enrolments of the bulk job."""
KILLS = 12 if FULL else 1
DEADLINE = 600.0 if FULL else 240.0
"""Seconds until everything must be decided, restarts and leases included."""


WORKERS = ["worker-a", "worker-b"] if FULL else ["worker-a"]


@contextmanager
def service(more: Mapping[str, str] | None = None) -> Iterator[Supervisor]:
    """A worker and a relay, in `make chaos` two of each; whatever dies is started again."""
    relays = ["relay-a", "relay-b"] if FULL else ["relay-a"]
    commands = {**dict.fromkeys(WORKERS, WORKER), **dict.fromkeys(relays, RELAY)}
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


Send = Callable[[str, list[int]], tuple[int, bool | None]]
"""Sends a request with its key; the id of the job, and whether it was made just now (None: not told)."""


@dataclass
class Verdict:
    """What became of everything that was accepted. The figures count ids of enrolments of jobs."""

    accepted: int = 0
    lost: int = 0
    double: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.double or self.wrong or self.problems)

    def check_books(self, db: Database) -> None:
        """Add what `withdrawals check` finds."""
        books = check(db)
        if not books.clean:
            self.problems += [str(violation) for violation in books.violations] or [f"the totals differ: {books}"]


@dataclass
class Load:
    """A bulk job and a stream of single requests over one platform, and what must come of them."""

    world: World
    db: Database
    random: Random
    persistent: bool = False
    """Whether producers repeat a request with its key until it is answered: where the database is away for long."""
    active: list[int] = field(default_factory=list)
    owned: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """Those of `active` that the platform does not let anybody withdraw."""
    others: set[int] = field(default_factory=set)
    """Enrolments of persons whom HR events are about; what becomes of them is for the scenario to judge."""
    jobs: dict[int, list[int]] = field(default_factory=dict)
    keys: dict[str, list[int]] = field(default_factory=dict)
    repeated: int = 0
    errors: list[BaseException] = field(default_factory=list)
    all_submitted: threading.Event = field(default_factory=threading.Event)
    send: Send | None = None
    """Another way in than `submit`."""

    @classmethod
    def over(cls, world: World, db: Database, *, size: int = SIZE, random: Random | None = None) -> Self:
        load = cls(world, db, random or Random(size))
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
        self.keys[key] = ids
        job_id, created = self._send(key, ids)
        if again:
            assert not created
            assert job_id in self.jobs
            self.repeated += 1
        self.jobs[job_id] = sorted(set(ids))

    def submit_at(self, key: str, ids: list[int], effective_at: datetime) -> int:
        """Submit a job for later; its id."""
        job_id, _ = self.submit_here(key, ids, effective_at)
        self.jobs[job_id] = sorted(set(ids))
        return job_id

    def submit_again(self) -> None:
        """Repeat every request with its key, as producers do after the database has lost commits."""
        self.jobs = {}
        for key, ids in self.keys.items():
            self.submit(key, ids)

    def _send(self, key: str, ids: list[int]) -> tuple[int, bool | None]:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self.send(key, ids) if self.send else self.submit_here(key, ids)
            except DBAPIError:
                if not self.persistent or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def submit_here(self, key: str, ids: list[int], effective_at: datetime | None = None) -> tuple[int, bool]:
        """Submit in this process, once; the id of the job, and whether it was made just now."""
        request = JobRequest(reason="not_required", enrolment_ids=ids, effective_at=effective_at)
        done = submit(
            self.db, Requester(self.world.organisation_id, "test:producer", "cli", key), request, chunk_size=40
        )
        return done.job.id, done.created

    def hit(self) -> bool:
        """Whether there is something to hit now: a decision is being made; or it is too late for that."""
        with suppress(OperationalError):
            return work_in_hand(self.world) or self.finished()
        return False

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
        verdict = self.verdict()
        assert verdict.clean, verdict

    def verdict(self) -> Verdict:
        """Wait for the end, and compare it with what was accepted."""
        eventually(self.finished, within=DEADLINE, what="all jobs finished")
        self.db.engine.dispose()  # of connections to a server that was restarted
        assert self.repeated
        found = Verdict(accepted=sum(map(len, self.jobs.values())))
        self._judge_jobs(found)
        self._judge_withdrawals(found)
        self._judge_letters(found)
        found.check_books(self.db)
        return found

    def _judge_jobs(self, found: Verdict) -> None:
        """Every accepted job is there, with one outcome for each id, and that one is what the rules give."""
        jobs = {row[0] for row in self.world.run("SELECT id FROM withdrawals.jobs WHERE source <> 'hr'")}
        found.double += len(jobs - self.jobs.keys())
        of_job: dict[int, dict[int, str]] = {job_id: {} for job_id in self.jobs.keys() | jobs}
        for job_id, enrolment_id, outcome in self.world.run(
            "SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes WHERE enrolment_id <> ALL(:others)",
            others=list(self.others),
        ):
            of_job[job_id][enrolment_id] = outcome
        for job_id, ids in self.jobs.items():
            found.lost += len(set(ids) - of_job[job_id].keys())
            found.wrong += len(of_job[job_id].keys() - set(ids))
        expected = self.expected()
        given = Counter(
            (job_id, enrolment_id, outcome)
            for job_id, outcomes in of_job.items()
            for enrolment_id, outcome in outcomes.items()
        )
        bad = [one for one in given if one[1] in expected and one[2] not in expected[one[1]]]
        found.wrong += len(bad)
        found.problems += [f"job {job}: enrolment {id_} is {outcome}" for job, id_, outcome in bad[:5]]

    def expected(self) -> Mapping[int, tuple[Outcome, ...]]:
        """For each enrolment: what it may be decided as by the rules."""
        return (
            dict.fromkeys(self.active, (Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN))
            | dict.fromkeys(self.owned, (Outcome.PATHWAY_OWNED,))
            | dict.fromkeys(self.ended, (Outcome.ENROLMENT_ENDED,))
            | dict.fromkeys(self.refused, (Outcome.FAILED,))
        )

    def _judge_withdrawals(self, found: Verdict) -> None:
        """Each active enrolment has one outcome `withdrawn`, and the platform has seen it change once; no other has."""
        wanted = set(self.active) - set(self.refused)
        rows = self.world.run("SELECT enrolment_id FROM withdrawals.outcomes WHERE outcome = 'withdrawn'")
        outcomes = Counter(row.enrolment_id for row in rows if row.enrolment_id not in self.others)
        rows = self.world.run("SELECT * FROM lms.changes")
        changes = Counter(tuple(row) for row in rows if row.enrolment_id not in self.others)
        seen = Counter(
            {change[0]: count for change, count in changes.items() if change[1:] == ("in_progress", "withdrawn")}
        )
        for counted in (outcomes, seen):
            found.lost += len(wanted - counted.keys())
            found.double += sum(count - 1 for count in counted.values())
            found.wrong += len(counted.keys() - wanted)
        found.wrong += changes.total() - seen.total()

    def _judge_letters(self, found: Verdict) -> None:
        """Whatever could not be done has one open letter; nothing else has."""
        letters = Counter((letter.code, letter.state, letter.enrolment_id) for letter in self.world.letters())
        wanted = {("pathway_owned", "open", enrolment_id) for enrolment_id in self.owned}
        wanted |= {("retries_exhausted", "open", enrolment_id) for enrolment_id in self.refused}
        found.lost += len(wanted - letters.keys())
        found.double += sum(count - 1 for count in letters.values())
        unwanted = letters.keys() - wanted
        found.wrong += len(unwanted)
        found.problems += [f"dead letter {letter}" for letter in sorted(unwanted, key=str)[:5]]


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


def time_passes(world: World, process_id: UUID | None) -> None:
    """As if a relay that leads had been silent for long enough to be replaced."""
    world.run(
        "UPDATE withdrawals.leader SET seen_at = seen_at - interval '1 hour' WHERE process_id = :id", id=process_id
    )
