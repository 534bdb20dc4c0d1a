"""A small platform to withdraw from, and shorthands for what tests do over and over."""

import io
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import IO, Any, TypeVar
from uuid import uuid4

from sqlalchemy import text

from schemas.events import PersonEvent
from schemas.jobs import JobRequest
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import Requester, submit
from worker.people import events
from worker.people.events import EventReceipt
from worker.queue.drain import Drain
from worker.queue.inbox import InboxDrain
from worker.records import Job
from worker.reports.books import check

T = TypeVar("T")
PATIENCE = 180.0
"""Seconds after which what has not come counts as missing: far beyond what the slowest machine needs."""


def id_file(ids: Iterable[int]) -> IO[bytes]:
    """A file with a column of ids, as people send it."""
    return io.BytesIO("\n".join(["enrolment_id", *map(str, ids)]).encode())


class World:
    """Creates organisations, learners and enrolments as the platform would, and reads them back."""

    def __init__(self, owner: Database, organisation_id: int | None = None) -> None:
        """`organisation_id`: of the organisation, where it is there already."""
        self.owner = owner
        self.organisation_id = organisation_id or self.organisation("Acme")

    def run(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement as the platform, committed; its rows if it has any."""
        with self.owner.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    def force(self, statement: str, **parameters: Any) -> None:
        """Change rows past every trigger and foreign key."""
        with self.owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text(statement), parameters)

    def one(self, statement: str, **parameters: Any) -> Any:
        """The single value of a query."""
        return self.run(statement, **parameters)[0][0]

    def organisation(self, name: str, timezone: str = "UTC") -> int:
        return int(
            self.one("INSERT INTO lms.organisations (name, timezone) VALUES (:n, :z) RETURNING id", n=name, z=timezone)
        )

    def learner(self, external_id: str, organisation_id: int | None = None) -> int:
        """A learner of that external id; made when missing."""
        return int(
            self.one(
                """INSERT INTO lms.learners (organisation_id, external_id) VALUES (:o, :e)
                ON CONFLICT (organisation_id, external_id) DO UPDATE SET external_id = excluded.external_id
                RETURNING id""",
                o=organisation_id or self.organisation_id,
                e=external_id,
            )
        )

    def pathway(self, title: str = "Onboarding") -> int:
        return int(
            self.one(
                """INSERT INTO lms.pathways (organisation_id, title) VALUES (:o, :t)
                ON CONFLICT (organisation_id, title) DO UPDATE SET title = excluded.title RETURNING id""",
                o=self.organisation_id,
                t=title,
            )
        )

    def enrolment(
        self,
        learner: str = "anna",
        status: str = "in_progress",
        *,
        pathway_id: int | None = None,
        organisation_id: int | None = None,
    ) -> int:
        """One enrolment in a Series of its own."""
        organisation_id = organisation_id or self.organisation_id
        return int(
            self.one(
                """WITH s AS (INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :c, :c) RETURNING id)
                INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
                SELECT :o, :l, s.id, :p, :status FROM s RETURNING id""",
                o=organisation_id,
                c=uuid4().hex[:12],
                l=self.learner(learner, organisation_id),
                p=pathway_id,
                status=status,
            )
        )

    def enrolments(self, count: int, status: str = "in_progress") -> list[int]:
        """Many enrolments, each of a learner of their own, in one Series."""
        rows = self.run(
            """WITH s AS (INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :c, :c) RETURNING id),
            l AS (INSERT INTO lms.learners (organisation_id, external_id)
                SELECT :o, :c || '-' || n FROM generate_series(1, :count) n RETURNING id)
            INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
            SELECT :o, l.id, s.id, :status FROM l, s RETURNING id""",
            o=self.organisation_id,
            c=uuid4().hex[:12],
            count=count,
            status=status,
        )
        return sorted(row[0] for row in rows)

    def status(self, enrolment_id: int) -> str:
        return str(self.one("SELECT status FROM lms.enrolments WHERE id = :id", id=enrolment_id))

    def active(self, external_id: str) -> bool:
        return bool(self.one("SELECT active FROM lms.learners WHERE external_id = :e", e=external_id))

    def outcomes(self, job_id: int) -> dict[int, str]:
        """Enrolment id to outcome, of one job."""
        return {
            row[0]: row[1]
            for row in self.run("SELECT enrolment_id, outcome FROM withdrawals.outcomes WHERE job_id = :id", id=job_id)
        }

    def letters(self) -> list[Any]:
        """Every dead letter: id, code, state, enrolment_id, learner_external_id."""
        return self.run(
            "SELECT id, code, state, enrolment_id, learner_external_id FROM withdrawals.dead_letters ORDER BY id"
        )

    def relay_leads(self, *, seen: str = "-1 day", failing: str = "{}") -> None:
        """Put a relay on record that leads. `failing`: as JSON.

        `seen`: how long ago; as long in the future as a test may take, if it does not say.
        """
        self.run(
            """UPDATE withdrawals.leader SET process_id = gen_random_uuid(), since = now(),
            seen_at = now() - CAST(:seen AS interval), failing = CAST(:failing AS jsonb)""",
            seen=seen,
            failing=failing,
        )

    def requester(self, key: str | None = None, door: str = "cli") -> Requester:
        return Requester(self.organisation_id, "test:admin", door, key or uuid4().hex)

    def submit(self, db: Database, ids: Sequence[int], *, chunk_size: int = 1000, **request: Any) -> Job:
        """Submit a bulk job over ids."""
        request.setdefault("reason", "not_required")
        made = JobRequest(enrolment_ids=list(ids), **request)
        return submit(db, self.requester(), made, chunk_size=chunk_size).job

    def event(self, db: Database, kind: str, external_id: str, *, source: str = "hr", **event: Any) -> EventReceipt:
        """Send a person's event: `deactivated`, `reactivated` or `deactivation_cancelled`."""
        made = PersonEvent(type=f"user.{kind}", external_id=external_id, **event)
        return events.record(db, self.requester(door=f"hr:{source}"), source, made)


def apply_inbox(db: Database, settings: Settings) -> None:
    """Apply the events that wait, in this thread; what they ask for is not decided yet."""
    inbox = InboxDrain(db, settings, threading.Event(), lambda _: nullcontext())
    while inbox.step():
        pass


def decide_due(db: Database, settings: Settings) -> None:
    """Apply the inbox and decide everything that is due, in this thread."""
    Drain(db, settings).run()


def eventually(condition: Callable[[], T | None], *, within: float = PATIENCE, what: str = "") -> T:
    """Poll until a condition holds; its value."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begun
        if waited > within:
            raise AssertionError(f"not within {within} s: {what or condition}")
        time.sleep(min(max(waited / 10, 0.01), 0.05))  # what takes long is asked for less often


def assert_balanced(db: Database) -> None:
    """The books balance and every invariant holds."""
    books = check(db)
    assert books.clean, books
