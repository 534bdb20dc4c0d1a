"""The service and its model side by side: an act on the real one, the same on the model, and both compared.

Faults, simulated workers and a relay; what is compared stands in `tests/support/comparison.py`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schemas.dead_letters import LetterAct
from tests.support import failpoints
from tests.support.comparison import CLOSED, Comparison
from tests.support.failpoints import Point
from tests.support.model_runs import Listed, Run
from tests.support.model_values import STANDING, Job, LetterKey
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import acts, remedies, run_steps
from worker.people import events
from worker.queue import recovery
from worker.queue.broker import make_broker
from worker.queue.drain import Drain
from worker.queue.relay import Relay
from worker.records import Claim

T = TypeVar("T")
Fault = tuple[int, str]
"""At which failpoint of an act, counted from its beginning, what happens."""


class DiedError(BaseException):
    """The process is gone: nothing of it runs any more, and PostgreSQL rolls back what it had not committed."""


def _die(point: Point) -> None:
    raise DiedError


PASSING = {
    "serialization": failpoints.serialization_failure,
    "deadlock": failpoints.deadlock,
    "lost": failpoints.lose_connection,
}
"""What a retry gets over, so that nobody notices."""
FAILING = {
    "row": failpoints.row_error,
    "bug": failpoints.bug,
    "timeout": failpoints.statement_timeout,
}
"""What is an attempt that failed."""
DYING = {"died": _die}

_LISTED = """
SELECT d.id, d.organisation_id, d.enrolment_id, d.learner_external_id, d.code, r.fingerprint, r.canary, r.driven_at,
    r.result
FROM withdrawals.run_letters r JOIN withdrawals.dead_letters d ON d.id = r.dead_letter_id
WHERE r.run_id = :run ORDER BY d.id
"""
_WAITING = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""


class Lockstep(Comparison):
    """One service over one database, its model, and simulated workers and a relay."""

    def __init__(self, db: Database, impatient: Database, owner: Database, settings: Settings) -> None:
        """`impatient`: connections of somebody who waits for a lock no longer than a moment."""
        super().__init__(db, owner)
        self.impatient = impatient
        self.drain, self.impatient_drain = Drain(db, settings), Drain(impatient, settings)
        self.broker = make_broker(settings.broker_url.get_secret_value())
        self.relay = Relay(db, self.broker, settings)
        self.steps: dict[str, Callable[[], object]] = {
            "take_over": lambda: recovery.take_over(db, settings),
            "deactivate": lambda: events.deactivate_due(db),
            "admit": self.relay.steps.admit_due,
            "close": lambda: self.relay.steps.leftovers.close_cancelled(db),
            "learners": lambda: remedies.redrive_known_learners(db),
            "daily": lambda: run_steps.redrive_changed(db),
            "runs": lambda: run_steps.step_all(db),
            "finish": self.relay.steps.finish,
        }
        """What the relay does, each by itself."""
        self.hands: list[Claim] = []
        """Claims that some worker has in hand, those included whose lease has run out since."""
        self.runs: dict[int, Run] = {}

    def close(self) -> None:
        self.broker.close()
        self.broker.client.close()

    def act(self, work: Callable[[], T], fault: Fault | None = None, during: Callable[[], None] | None = None) -> T:
        """Do something to the service, with a fault, or with something that happens in the middle of it.

        Raises:
            DiedError: the fault was the death of the process.
        """
        if fault is None:
            return work()
        nth, kind = fault
        action = {**PASSING, **FAILING, **DYING}.get(kind)

        def fire(point: Point) -> None:
            self.fired.append(f"{kind} at {point.name}")
            if during is not None:
                during()
            elif kind != "died" and point.name.endswith("commit:after"):
                failpoints.lose_connection(point)  # the server has committed: only its answer can get lost
            elif action is not None:
                self.model.faulty = self.model.faulty or kind not in PASSING
                action(point)

        with failpoints.armed("*", fire, nth):
            return work()

    def survive(self, work: Callable[[], T], fault: Fault | None = None) -> T | None:
        """`act` of a process that may die of it."""
        try:
            return self.act(work, fault)
        except DiedError:
            return None

    def insisted(self, work: Callable[[], T], fault: Fault | None) -> T:
        """`act` of somebody who asks again, in the same words, when they got no answer."""
        try:
            return self.act(work, fault)
        except (DiedError, DBAPIError):
            return work()

    # Workers and relay

    def claim(self, fault: Fault | None = None) -> None:
        claim = self.survive(self.drain._claim, fault)
        if claim is not None:
            self.hands.append(claim)

    def apply(self, claim: Claim, fault: Fault | None = None, during: Callable[[], None] | None = None) -> None:
        """A worker decides its claim; or dies of it, and somebody else will.

        An error in the finishing alone comes through, to Dramatiq; the relay's sweep repeats the finishing.
        """
        own = f"""SELECT id FROM withdrawals.chunks WHERE token = '{claim.token}' AND state = 'claimed'"""
        before = {row.id for row in self.run(own)}
        at_most = (DiedError, DBAPIError, RuntimeError) if fault and fault[1] in FAILING else (DiedError,)
        with suppress(*at_most):
            self.act(lambda: self.drain._handle(claim), fault, during)
        decided = {row.id for row in self.run(CLOSED, known=self.known) if row.state in ("done", "failed", "split")}
        assert decided <= before, f"chunks {decided - before} were decided by a claim that was not their own any more"

    def apply_beside(self, claim: Claim, statement: str, **values: Any) -> bool:
        """A worker decides while the platform has changed a row and not committed yet; False: the platform could not.

        Whoever looks at that row has to wait for it, so the platform's change comes first.
        """
        with self.owner.engine.connect() as platform, ThreadPoolExecutor(1) as pool:
            try:
                platform.execute(text(statement), values)
            except DBAPIError:
                return False
            worker = pool.submit(self.apply, claim)
            while not worker.done() and not self.run(_WAITING):
                wait([worker], timeout=0.01)
            platform.commit()
            worker.result()
        return True

    def enrolments_of(self, claim: Claim) -> list[int]:
        """What a claim is about, as far as it names enrolments; never empty."""
        rows = self.run("SELECT unnest(enrolment_ids) FROM withdrawals.chunks WHERE id = ANY(:i)", i=claim.chunk_ids)
        return [row[0] for row in rows] or [0]

    def decide_meanwhile(self, claim: Claim) -> None:
        """Another worker, in the middle of the first one's transaction; it may have to wait for a lock, and fail."""
        self.model.faulty = True
        with suppress(DBAPIError):
            self.impatient_drain._handle(claim)
        self.follow(running=True)

    def relay_step(self, name: str, fault: Fault | None = None) -> None:
        """One step of the relay; one that dies in it is replaced by another, which takes the step again."""
        self.run("UPDATE withdrawals.runs SET stepped_at = stepped_at - interval '1 minute'")
        if fault is not None:
            self.survive(lambda: self.relay._try(name, self.steps[name]), fault)
        self.relay._try(name, self.steps[name])
        if name == "deactivate":
            self.model.deactivate_due()
        if name == "learners":
            self._follow_known_learners()
        self.follow_runs(steps=1 if fault is None else 2)
        self.compare()

    def leases_run_out(self) -> None:
        self.model.faulty = True
        self.run("UPDATE withdrawals.chunks SET lease_until = now() - interval '1 s' WHERE state = 'claimed'")

    def open_letters(self) -> list[tuple[int, LetterKey]]:
        """Id and key of the letters that somebody can decide."""
        rows = self.run(
            """SELECT id, organisation_id, enrolment_id, learner_external_id, code FROM withdrawals.dead_letters
            WHERE state = 'open' ORDER BY id"""
        )
        return [(row[0], tuple(row[1:])) for row in rows]

    def _follow_known_learners(self) -> None:
        """The relay tries letters of persons again whom the platform knows by now."""
        rows = self.run("""SELECT organisation_id, enrolment_id, learner_external_id, code
            FROM withdrawals.dead_letters WHERE state = 'redriven' AND code = 'unknown_learner'""")
        for row in rows:
            key: LetterKey = tuple(row)
            if not self.model.letters[key].trying:
                assert self.model.learner((key[0], key[2] or "")) is not None, key
                self.model.redrive(key)

    def follow_acts(self, keys: list[LetterKey], act: str) -> None:
        """Somebody did this to letters."""
        made = self.new_jobs()
        self._follow_acts_of(keys, act, made)
        assert not made, made

    def _follow_acts_of(self, keys: list[LetterKey], act: str, made: list[Any]) -> None:
        """`made`: new jobs; those that the acts have made are taken away."""
        for key in keys:
            siblings = self.model.siblings(key) if act == LetterAct.CASCADE else None
            if siblings:
                new, of = next(job for job in made if job.organisation_id == key[0]), self.model.asking(key)
                made.remove(new)
                assert (new.epoch, new.deactivated_external_id) == (of.epoch, of.about)
                pathway = self.model.letters[key].pathway
                self.model.submit(new.id, Job(key[0], siblings, epoch=of.epoch, about=of.about, override=pathway))
            if act in acts.ATTEMPTS:
                assert not self.model.letters[key].trying, key
                self.model.redrive(key, override=act != LetterAct.REDRIVE)
            else:
                self.model.close(key)

    def follow_runs(self, *, steps: int = 0) -> None:
        """What runs have begun and driven since the last look, in up to so many steps of the relay."""
        for row in self.run("SELECT * FROM withdrawals.runs WHERE id <> ALL(:known)", known=list(self.runs)):
            self.runs[row.id] = Run(row.organisation_id, row.act, row.filter.get("code"), row.rate, row.canary)
            for letter in self.run(_LISTED, run=row.id):
                key: LetterKey = tuple(letter[1:5])
                self.runs[row.id].listed[letter.id] = Listed(key, letter.fingerprint, letter.canary)
            self.runs[row.id].begin()
        made = self.new_jobs()  # of all runs that went on in this step
        for run_id, run in self.runs.items():
            driven = []
            for letter in self.run(_LISTED, run=run_id):
                run.listed[letter.id].result = letter.result
                if letter.driven_at is not None and not run.listed[letter.id].driven:
                    driven.append(letter.id)
            keys = run.drive(driven, steps=steps)
            if run.organisation in self.braked and run.act in acts.ATTEMPTS:
                counted = [key for key in keys if self.model.is_counted(key, run.act)]
                assert not counted, f"past the brake: {counted}"
            self._follow_acts_of(keys, run.act, made)
        assert not made, made
        for row in self.run("SELECT id, state, organisation_id FROM withdrawals.runs"):
            run = self.runs[row.id]
            halts, run.under_way = run.under_way and row.state == "halted", row.state in ("canary", "running")
            reason = len(run.listed) >= run_steps.LEAST or row.organisation_id in self.braked
            assert not halts or reason, "halted without a reason"

    def rest(self) -> None:
        """Until nothing is left to do: everything due, leases over, nobody holds or pauses anything."""
        for _ in range(40):
            self.leases_run_out()
            self.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
            for name in self.steps:
                self.relay_step(name)
            while (claim := self.drain._claim()) is not None:
                self.drain._handle(claim)
                self.compare()
            busy = any(job.state in STANDING for job in self.model.jobs.values())
            busy = busy or any(run.under_way for run in self.runs.values())
            if not busy and not any(letter.trying for letter in self.model.letters.values()):
                self.check_books()
                return
        raise AssertionError(f"never at rest: {self.model}; faults: {self.fired}")
