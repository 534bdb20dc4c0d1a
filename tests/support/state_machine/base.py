"""What the parts of the state machine share: the world it begins with, what is drawn, and the way to rest."""

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from schemas.control import BrakeSetting
from schemas.events import PersonEvent
from schemas.jobs import JobRequest
from tests.support import failpoints
from tests.support.lockstep import DYING, FAILING, PASSING, Lockstep
from tests.support.model_values import Key
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake, control
from worker.jobs.submit import Requester
from worker.rules import ACTIVE, ENDED

PEOPLE = ("p1", "p2", "p3")
SOURCES = ("hr", "payroll")
NOW = 10_000
"""Minutes of the model's clock from which on events happen when they are received."""
DAYS = (9, 10)
"""When something takes effect later, counted from now."""
BASE = datetime.now(UTC) - timedelta(hours=3)
LATER = {day: datetime.now(UTC) + timedelta(days=day) for day in DAYS}

numbers = st.integers(0, 29)
whom = st.tuples(st.integers(0, 1), st.sampled_from(PEOPLE))
statuses = st.sampled_from([*ACTIVE, *ENDED, "on_hold"])
passing = st.none() | st.tuples(st.integers(1, 20), st.sampled_from([*PASSING, *DYING]))
retried = st.none() | st.tuples(st.integers(1, 20), st.sampled_from([*PASSING]))
anything = st.none() | st.tuples(st.integers(1, 24), st.sampled_from([*PASSING, *FAILING, *DYING]))


reached: Counter[str] = Counter()
"""What the runs of this process have come across: outcomes, states of jobs, faults that happened."""


class Base(RuleBasedStateMachine):
    """Two organisations with a few people. A number that is drawn picks one of what there is."""

    def __init__(self, db: Database, impatient: Database, owner: Database, settings: Settings) -> None:
        super().__init__()
        _empty(owner)
        self.both = both = Lockstep(db, impatient, owner, settings)
        self.model = both.model
        self.organisations = [both.organisation("Acme"), both.organisation("Globex")]
        self.series = {o: [both.named("series", o, f"s{n}") for n in range(3)] for o in self.organisations}
        self.pathways = {o: [both.named("pathways", o, f"w{n}") for n in range(2)] for o in self.organisations}
        for number, organisation in enumerate(self.organisations):
            for person in PEOPLE[: 2 - number]:
                learner = both.add_learner(organisation, person)
                both.add_enrolment(learner, self.series[organisation][0], None, "in_progress")
                both.add_enrolment(learner, self.series[organisation][1], None, "no_attempts")
                both.add_enrolment(learner, self.series[organisation][2], None, "on_hold")
                for series in self.series[organisation][:2]:
                    both.add_enrolment(learner, series, self.pathways[organisation][0], "in_progress")
        self.clock = NOW
        self.submitted: list[tuple[Requester, JobRequest, int]] = []
        self.sent: list[tuple[Key, PersonEvent, Requester, str]] = []
        self.settings = settings
        self.source_ids: dict[tuple[int, str], int] = {}
        self.deleted: set[int] = set()
        """Learners that SCIM has deleted, and not created again."""
        self.of_scim: set[Key] = set()
        """Whom SCIM has created, changed or deleted."""
        self.keys = iter(range(1_000_000))

    def teardown(self) -> None:
        try:
            if not self.both.broken:
                self._rest()
        finally:
            failpoints.disarm()
            self.both.close()

    def _rest(self) -> None:
        for organisation in self.organisations:
            brake.set_limits(self.both.db, organisation_id=organisation, wanted=BrakeSetting(), actor="test:owner")
        self.both.braked.clear()
        self._time_passes()
        for job_id, job in self.model.jobs.items():
            who: dict[str, Any] = {"organisation_id": job.organisation, "job_id": job_id, "actor": "test:approver"}
            if job.state == "paused":
                control.resume(self.both.db, **who)
                job.state = "queued"
            if job.state == "held":
                control.release(self.both.db, **who)
                job.state, job.released = "scheduled", True
        self.both.compare()
        self.both.rest()
        reached.update(f"outcome {o}" for job in self.model.jobs.values() for o in job.outcomes.values())
        reached.update(f"job {job.state}" for job in self.model.jobs.values())
        reached.update(self.both.fired)

    def _change_pathway(self, found: int | None, pathway: int | None) -> None:
        """The platform lets another pathway own an enrolment, or none."""
        if found is None or found not in self.model.enrolments:
            return
        enrolment = self.model.enrolments[found]
        owner = None if pathway is None else self.pathways[enrolment.organisation][pathway]
        with suppress(sqlalchemy.exc.DBAPIError):
            self.both.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :id", p=owner, id=found)
            enrolment.pathway = owner

    def _time_passes(self) -> None:
        for table in ("jobs", "persons", "person_events"):
            self.both.run(f"UPDATE withdrawals.{table} SET effective_at = now() WHERE effective_at > now()")
        self.both.run("UPDATE withdrawals.organisation_settings SET passed_at = now() - interval '2 days'")
        self.model.time_passes()


def _empty(owner: Database) -> None:
    """Every table but those whose rows the migrations make: a hundred times faster than a new database."""
    with owner.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        found = connection.exec_driver_sql(
            """SELECT string_agg(schemaname || '.' || tablename, ', ') FROM pg_tables
            WHERE schemaname IN ('lms', 'withdrawals') AND tablename NOT IN ('schema_version', 'leader', 'seals')"""
        ).scalar_one()
        connection.exec_driver_sql(f"TRUNCATE {found} RESTART IDENTITY CASCADE")
