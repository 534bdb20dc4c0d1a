"""The service and its model side by side: an act on the real one, the same on the model, and both compared.

Whatever an act was, `compare` reads everything that the service has written, lets the model follow the decisions that
were committed, and holds all of it against the model; then it checks the books.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support import failpoints
from tests.support.failpoints import Point
from tests.support.model import Model
from tests.support.model_values import STANDING, Closed, Enrolment, Learner, LetterKey
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies, runs
from worker.people import events
from worker.queue import recovery
from worker.queue.broker import make_broker
from worker.queue.drain import Drain
from worker.queue.relay import Relay
from worker.records import Claim
from worker.reports.books import check

T = TypeVar("T")
BOOKS_EVERY = 5
"""They take longer than everything else."""
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

_CLOSED = """
SELECT c.id, c.job_id, c.enrolment_ids, c.learner_external_id, c.state, c.counts = '{"failed": 1}' AS failed,
    c.token, f.code AS into, c.redrives, l.organisation_id, l.enrolment_id, l.learner_external_id AS person, l.code
FROM withdrawals.chunks c
LEFT JOIN withdrawals.dead_letters l ON l.id = c.redrives
LEFT JOIN withdrawals.outcomes o ON o.chunk_id = c.id AND o.enrolment_id = c.enrolment_ids[1] AND o.outcome = 'failed'
LEFT JOIN withdrawals.dead_letters f ON f.id = coalesce(c.dead_letter_id, o.dead_letter_id)
WHERE c.closed_at IS NOT NULL AND c.id <> ALL(:known) ORDER BY c.closed_at, c.id
"""
_WAITING = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""
_STATE = {
    "enrolments": "SELECT id, status FROM lms.enrolments",
    "learners": "SELECT id, active FROM lms.learners",
    "outcomes": "SELECT job_id, enrolment_id, outcome FROM withdrawals.outcomes",
    "taken back": "SELECT job_id, enrolment_id, true FROM withdrawals.outcomes WHERE reinstated_by IS NOT NULL",
    "letters": """SELECT organisation_id, enrolment_id, learner_external_id, code, state FROM withdrawals.dead_letters
        WHERE state IN ('open', 'redriven')""",
    "jobs": "SELECT id, organisation_id, state FROM withdrawals.jobs",
    "open": """SELECT job_id, unnest(coalesce(enrolment_ids, ARRAY[NULL::bigint])), true FROM withdrawals.job_chunks
        WHERE state IN ('waiting', 'ready', 'claimed')""",
}


class Lockstep:
    """One service over one database, its model, and simulated workers and a relay."""

    def __init__(self, db: Database, impatient: Database, owner: Database, settings: Settings) -> None:
        """`impatient`: connections of somebody who waits for a lock no longer than a moment."""
        self.db, self.impatient, self.owner = db, impatient, owner
        self.model = Model()
        self.braked: set[int] = set()
        self.drain, self.impatient_drain = Drain(db, settings), Drain(impatient, settings)
        self.broker = make_broker(settings.broker_url.get_secret_value())
        self.relay = Relay(db, self.broker, settings)
        self.steps: dict[str, Callable[[], object]] = {
            "take_over": lambda: recovery.take_over(db, settings),
            "deactivate": lambda: events.deactivate_due(db),
            "admit": self.relay._admit_due,
            "close": lambda: self.relay._leftovers.close_cancelled(db),
            "learners": lambda: remedies.redrive_known_learners(db),
            "daily": lambda: runs.redrive_changed(db),
            "runs": lambda: runs.step_all(db),
            "finish": self.relay._finish,
        }
        """What the relay does, each by itself."""
        self.hands: list[Claim] = []
        """Claims that some worker has in hand, those included whose lease has run out since."""
        self.fired: list[str] = []
        self.broken = False
        """Whether a comparison has failed: nothing after it means anything."""
        self._known: list[int] = []
        self._job = 0
        self._looks = 0

    def close(self) -> None:
        self.broker.close()
        self.broker.client.close()

    def run(self, statement: str, **parameters: Any) -> list[Any]:
        """As the platform, committed."""
        with self.owner.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

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

    def new_jobs(self) -> list[Any]:
        """Jobs that were made since the last look."""
        found = self.run("SELECT * FROM withdrawals.jobs WHERE id > :last ORDER BY id", last=self._job)
        self._job = max([self._job, *(job.id for job in found)])
        return found

    def compare(self, *, added: frozenset[int] = frozenset(), running: bool = False) -> None:
        """Let the model follow what was decided, and hold everything against it.

        `added`: enrolments that the platform inserted while a worker decided. `running`: somebody acted meanwhile.
        """
        try:
            state = self.follow(added=added, running=running)
            for name in self._compared:
                seen = {tuple(row[:-1]): row[-1] for row in state[name]}
                expected = self._expected(name)
                different = {key: (seen.get(key), expected.get(key)) for key in {*seen, *expected}}
                wrong = {key: pair for key, pair in different.items() if pair[0] != pair[1]}
                assert not wrong, f"{name}: the service and the model say {wrong}"
            self._follow_states(state["jobs"])
            self._looks += 1
            if self._looks % BOOKS_EVERY == 0:
                self.check_books()
        except AssertionError as error:
            self.broken = True
            error.add_note(f"faults: {self.fired}")
            raise

    def check_books(self) -> None:
        """The service's own books must find nothing but what the platform did."""
        books = check(self.db)
        made_active = any(
            learner.active and person is not None and not person.active and not person.due
            for learner in self.model.learners.values()
            for person in [self.model.persons.get(learner.key)]
        )
        if made_active:
            books.violations = [one for one in books.violations if one.rule != "learner-active"]
        assert books.clean, books

    def catch_up(self) -> None:
        """In the middle of an act: what is committed by now came before what follows."""
        self._follow_states(self.follow()["jobs"])

    def follow(self, *, added: frozenset[int] = frozenset(), running: bool = False) -> dict[str, Sequence[Any]]:
        """Tell the model what was decided since the last look; what the database holds now, by its name in `_STATE`."""
        with self.owner.begin() as connection:
            closed = connection.execute(text(_CLOSED), {"known": self._known}).all()
            state = {name: connection.execute(text(statement)).all() for name, statement in _STATE.items()}
        self._follow(closed, {(row[0], row[1]) for row in state["outcomes"]}, added, running)
        return state

    _compared = ("enrolments", "learners", "outcomes", "taken back", "letters", "open")

    def _follow(
        self, closed: Sequence[Any], outcomes: set[tuple[int, int]], added: frozenset[int], running: bool
    ) -> None:
        self._known += [row.id for row in closed]
        by_claim: dict[Any, list[Closed]] = {}
        for row in closed:
            if row.state in ("superseded", "cancelled"):
                self.model.found_closed(row.job_id, row.state)
            elif row.state != "split":
                by_claim.setdefault(row.token, []).append(_closed(row))
        for together in by_claim.values():
            jobs = {one.job for one in together if one.person is not None}
            missed = frozenset(i for i in added if not any((job, i) in outcomes for job in jobs))
            self.model.decide(together, fresh=missed, running=running)

    def _follow_states(self, jobs: Sequence[Any]) -> None:
        assert {row.id for row in jobs} == set(self.model.jobs)
        for row in jobs:
            allowed = self.model.allowed_states(row.id, braked=row.organisation_id in self.braked)
            assert row.state in allowed, f"job {row.id} is {row.state}, not one of {allowed}"
            self.model.jobs[row.id].state = row.state

    def _expected(self, name: str) -> dict[tuple[Any, ...], Any]:
        model = self.model
        match name:
            case "enrolments":
                return {(i,): enrolment.status for i, enrolment in model.enrolments.items()}
            case "learners":
                return {(i,): learner.active for i, learner in model.learners.items()}
            case "outcomes":
                return {(j, i): outcome for j, job in model.jobs.items() for i, outcome in job.outcomes.items()}
            case "taken back":
                return {(j, i): True for j, job in model.jobs.items() for i in job.taken_back}
            case "letters":
                return {key: "redriven" if letter.trying else "open" for key, letter in model.letters.items()}
            case _:
                return {(j, subject): True for j, job in model.jobs.items() for subject in job.open}

    # The platform

    def organisation(self, name: str) -> int:
        return int(self.run("INSERT INTO lms.organisations (name) VALUES (:n) RETURNING id", n=name)[0].id)

    def named(self, table: str, organisation: int, name: str) -> int:
        """A Series or a pathway."""
        columns, values = ("code, title", ":n, :n") if table == "series" else ("title", ":n")
        row = self.run(
            f"INSERT INTO lms.{table} (organisation_id, {columns}) VALUES (:o, {values}) RETURNING id",
            o=organisation,
            n=name,
        )
        return int(row[0].id)

    def add_learner(self, organisation: int, external_id: str) -> int:
        row = self.run(
            "INSERT INTO lms.learners (organisation_id, external_id) VALUES (:o, :e) RETURNING id",
            o=organisation,
            e=external_id,
        )
        self.model.learners[row[0].id] = Learner((organisation, external_id))
        return int(row[0].id)

    def add_enrolment(self, learner: int, series: int, pathway: int | None, status: str) -> int:
        organisation = self.model.learners[learner].key[0]
        row = self.run(
            """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
            VALUES (:o, :l, :s, :p, :status) RETURNING id""",
            o=organisation,
            l=learner,
            s=series,
            p=pathway,
            status=status,
        )
        self.model.enrolments[row[0].id] = Enrolment(organisation, learner, series, pathway, status)
        return int(row[0].id)

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
        decided = {row.id for row in self.run(_CLOSED, known=self._known) if row.state in ("done", "failed", "split")}
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
        if fault is not None:
            self.survive(lambda: self.relay._try(name, self.steps[name]), fault)
        self.relay._try(name, self.steps[name])
        if name == "deactivate":
            self.model.deactivate_due()
        self.follow_redrives()
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

    def follow_redrives(self) -> None:
        """What the relay tries again of its own accord."""
        rows = self.run("""SELECT organisation_id, enrolment_id, learner_external_id, code
            FROM withdrawals.dead_letters WHERE state = 'redriven'""")
        for row in rows:
            key: LetterKey = tuple(row)
            if not self.model.letters[key].trying:
                self.model.redrive(key)

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
            if not busy and not any(letter.trying for letter in self.model.letters.values()):
                self.check_books()
                return
        raise AssertionError(f"never at rest: {self.model}; faults: {self.fired}")


def _closed(row: Any) -> Closed:
    """A chunk that was closed, as the model wants to be told of it."""
    attempt = row.redrives is not None
    given_up = row.state == "failed" or (row.failed and not attempt)
    no_learner = row.into == "unknown_learner" or (attempt and row.enrolment_ids is None and given_up)
    return Closed(
        job=row.job_id,
        ids=None if row.enrolment_ids is None else tuple(row.enrolment_ids),
        person=row.learner_external_id,
        state="failed" if given_up else "done",
        letter=(row.organisation_id, row.enrolment_id, row.person, row.code) if attempt else None,
        gave_up=row.into if given_up and not no_learner else None,
    )
