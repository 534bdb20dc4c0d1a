"""A worker that dies or stands still while the server carries out its message: locks, decision and end of jobs in one.

The server begins with a message once it has all of it, and needs the worker no more. So it is done whole, or, if its
session ends before the commit, not at all. Where it is stopped here, a lock is held that only that part of it needs.

Before the message is sent and after its answer: `test_failpoints.py`. Half sent: `test_race_frozen_senders.py`.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.load import DEADLINE
from tests.support.processes import WORKER, family, kill, process
from tests.support.racing import Hold, chunks, held, leases_run_out
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.queue import recovery
from worker.queue.broker import make_broker

PATIENT = {"WITHDRAWALS_LEASE_SECONDS": "600"}
"""A session waits a minute for a lock: far longer than what is done to its worker meanwhile."""
ONE_THREAD = [*WORKER[:-1], "1"]
WAITING = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND cardinality(pg_blocking_pids(pid)) > 0"""
LOCKS = "SELECT FROM lms.enrolments FOR UPDATE"
PLACES = {
    "while it locks": LOCKS,
    "between its statements": "LOCK TABLE withdrawals.outcomes IN SHARE MODE",
    "while it writes": "SELECT pg_advisory_xact_lock(1)",
}
"""By where the server stops with a message: what is held."""


class Story:
    """One worker process, which gets a hint when it is told, and what it is asked for."""

    def __init__(self, world: World, db: Database, environment: Settings, what: str) -> None:
        self.world, self.db, self.environment = world, db, environment
        self.what = what
        self.enrolments: list[int] = []
        self.broker = make_broker(environment.broker_url.get_secret_value())

    def ask(self, *people: str) -> list[int]:
        """Two jobs or more, which are one claim; their ids."""
        jobs = []
        for person in people:
            self.enrolments.append(self.world.enrolment(person))
            if self.what == "deactivations":
                jobs.append(self.world.event(self.db, "deactivated", person).job_id or 0)
            else:
                jobs.append(self.world.submit(self.db, self.enrolments[-1:]).id)
        return jobs

    def wake(self) -> None:
        self.broker.top_up(1)

    def done_by_worker(self, *people: str) -> None:
        """Let the process decide something else, to the end."""
        jobs = self.ask(*people)
        self.wake()
        eventually(
            lambda: self.states(jobs) == {"completed"}, within=DEADLINE, what="the worker decides something else"
        )

    def states(self, jobs: Sequence[int]) -> set[str]:
        return {row[0] for row in self.world.run("SELECT state FROM withdrawals.jobs WHERE id = ANY(:i)", i=list(jobs))}

    def waiting(self) -> list[int]:
        """The sessions that wait for a lock."""
        return [pid for (pid,) in self.world.run(WAITING)]

    def end_session(self) -> None:
        (pid,) = self.waiting()
        self.world.run("SELECT pg_terminate_backend(:pid, 60000)", pid=pid)

    def others_go_on(self) -> None:
        """Another worker, and the relay, after the lease has run out."""
        leases_run_out(self.world)
        recovery.take_over(self.db, self.environment)
        decide_due(self.db, self.environment)


@pytest.fixture
def story(request: pytest.FixtureRequest, db: Database, world: World, environment: Settings) -> Iterator[Story]:
    world.run("""CREATE FUNCTION lms.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END $$""")
    world.run("CREATE TRIGGER slow BEFORE UPDATE OF status ON lms.enrolments FOR EACH ROW EXECUTE FUNCTION lms.slow()")
    made = Story(world, db, environment, request.param)
    yield made
    made.broker.close()
    made.broker.client.close()


Worker = subprocess.Popen[bytes]


def _stop(worker: Worker, by: signal.Signals) -> None:
    for pid in family(worker.pid):
        os.kill(pid, by)


def killed(story: Story, worker: Worker, hold: Hold, jobs: Sequence[int]) -> None:
    """What the server has begun with it ends, although nobody waits for the answer."""
    for pid in family(worker.pid):
        kill(pid)
    worker.wait()
    assert len(story.waiting()) == 1
    hold.release()
    eventually(lambda: story.states(jobs) == {"completed"}, what="what the server was sent")


def frozen(story: Story, worker: Worker, hold: Hold, jobs: Sequence[int]) -> None:
    """The same, and later the worker reads the answer and goes on."""
    _stop(worker, signal.SIGSTOP)
    hold.release()
    eventually(lambda: story.states(jobs) == {"completed"}, what="what the server was sent")
    story.others_go_on()
    _stop(worker, signal.SIGCONT)
    story.done_by_worker("somebody else", "and another")


def lost(story: Story, worker: Worker, hold: Hold, jobs: Sequence[int]) -> None:
    """Nothing of it was done, and the worker sends it again at once: that is no attempt which failed."""
    story.end_session()
    eventually(story.waiting, what="the same message again")
    hold.release()
    eventually(lambda: story.states(jobs) == {"completed"}, what="the message the second time")


def late(story: Story, worker: Worker, hold: Hold, jobs: Sequence[int]) -> None:
    """Nothing of it was done; others have decided when the worker sends it again."""
    _stop(worker, signal.SIGSTOP)
    story.end_session()
    hold.release()
    assert story.states(jobs) == {"queued"}
    story.others_go_on()
    assert story.states(jobs) == {"completed"}
    _stop(worker, signal.SIGCONT)
    story.done_by_worker("somebody else", "and another")


FATES: dict[str, Callable[[Story, Worker, Hold, Sequence[int]], None]] = {
    "killed": killed,
    "frozen": frozen,
    "without its session": lost,
    "frozen beyond its lease": late,
}
IN_SUITE = ("single requests", "between its statements", "killed")
"""The one that stands for all in the suite."""
MATRIX = [
    pytest.param(what, place, fate, marks=[] if (what, place, fate) == IN_SUITE else pytest.mark.long)
    for what in ("single requests", "deactivations")
    for place in PLACES
    for fate in FATES
    # The first message of a run, which finds no deactivation, waits for the table of outcomes already.
    if (what, place) != ("deactivations", "between its statements")
]


@pytest.mark.parametrize(("story", "place", "fate"), MATRIX, indirect=["story"])
def test_a_message_whose_worker_dies_or_stands_still_is_done_once(
    story: Story, owner: Database, place: str, fate: str
) -> None:
    """Small: one of these, which the suite has."""
    world = story.world
    with process(ONE_THREAD, PATIENT) as worker:
        story.done_by_worker("the first", "the second")  # what a message has was prepared then
        _stop(worker, signal.SIGSTOP)  # it may still look for more
        jobs = story.ask("anna", "ben")
        with held(owner, PLACES[place]) as hold:
            _stop(worker, signal.SIGCONT)
            story.wake()
            eventually(story.waiting, what="the server stops with the message")
            FATES[fate](story, worker, hold, jobs)
    again = fate == "frozen beyond its lease"
    for job in jobs:
        assert chunks(world, job, "state, counts, claims, attempts") == [("done", {"withdrawn": 1}, 1 + again, 0)]
    story.others_go_on()
    assert world.run("SELECT DISTINCT status FROM lms.enrolments") == [("withdrawn",)]
    outcomes = world.run("SELECT enrolment_id, outcome FROM withdrawals.outcomes ORDER BY enrolment_id")
    assert [tuple(row) for row in outcomes] == [(one, "withdrawn") for one in story.enrolments]
    results = [row[0] for row in world.run("SELECT result FROM withdrawals.attempts")]
    assert results == ["vanished"] * (len(jobs) if again else 0)
    assert_balanced(story.db)
