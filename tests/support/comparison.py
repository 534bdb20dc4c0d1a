"""What the service has written, held against its model: the model follows each decision that was committed.

`compare` reads all of it, lets the model follow, and holds everything against it; now and then it checks the books.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from tests.support.model import Model
from tests.support.model_values import Closed, Enrolment, Learner
from worker.database import Database
from worker.reports.books import check

BOOKS_EVERY = 5
"""They take longer than everything else."""

CLOSED = """
SELECT c.id, c.job_id, c.enrolment_ids, c.learner_external_id, c.state, c.counts = '{"failed": 1}' AS failed,
    EXISTS (SELECT 1 FROM withdrawals.attempts a WHERE a.chunk_id = c.id AND a.token = c.token) AS undecided,
    c.token, f.code AS into, c.redrives, l.organisation_id, l.enrolment_id, l.learner_external_id AS person, l.code
FROM withdrawals.chunks c
LEFT JOIN withdrawals.dead_letters l ON l.id = c.redrives
LEFT JOIN withdrawals.outcomes o ON o.chunk_id = c.id AND o.enrolment_id = c.enrolment_ids[1] AND o.outcome = 'failed'
LEFT JOIN withdrawals.dead_letters f ON f.id = coalesce(c.dead_letter_id, o.dead_letter_id)
WHERE c.closed_at IS NOT NULL AND c.id <> ALL(:known) ORDER BY c.closed_at, c.id
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


class Comparison:
    """One database of the service, and its model."""

    def __init__(self, db: Database, owner: Database) -> None:
        self.db, self.owner = db, owner
        self.model = Model()
        self.braked: set[int] = set()
        self.fired: list[str] = []
        self.broken = False
        """Whether a comparison has failed: nothing after it means anything."""
        self.known: list[int] = []
        """Chunks that the model knows to be closed."""
        self._job = 0
        self._looks = 0

    def run(self, statement: str, **parameters: Any) -> list[Any]:
        """As the platform, committed."""
        with self.owner.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

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
            closed = connection.execute(text(CLOSED), {"known": self.known}).all()
            state = {name: connection.execute(text(statement)).all() for name, statement in _STATE.items()}
        self._follow(closed, {(row[0], row[1]) for row in state["outcomes"]}, added, running)
        return state

    _compared = ("enrolments", "learners", "outcomes", "taken back", "letters", "open")

    def _follow(
        self, closed: Sequence[Any], outcomes: set[tuple[int, int]], added: frozenset[int], running: bool
    ) -> None:
        self.known += [row.id for row in closed]
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


def _closed(row: Any) -> Closed:
    """A chunk that was closed, as the model wants to be told of it."""
    attempt = row.redrives is not None
    given_up = row.state == "failed" or (row.failed and not attempt)
    no_learner = row.into == "unknown_learner" and not row.undecided
    return Closed(
        job=row.job_id,
        ids=None if row.enrolment_ids is None else tuple(row.enrolment_ids),
        person=row.learner_external_id,
        state="failed" if given_up else "done",
        letter=(row.organisation_id, row.enrolment_id, row.person, row.code) if attempt else None,
        gave_up=row.into if given_up and not no_learner else None,
    )
