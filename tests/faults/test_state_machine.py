"""Anything, in any order, with anything going wrong: after each step the service has done what its model says.

Hypothesis draws the steps: producers, HR systems, SCIM, support, the platform, workers, the relay, the clock and
faults. A fault hits any boundary between two statements of a step. Each transaction is compared with the model
(`tests/support/model.py`) and the books are checked; in the end everything is driven to rest, and nothing may be left.

`make chaos` takes thousands of steps with a new seed, which it prints; `CHAOS_SEED=…` repeats one.
"""

import io
import os
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
import sqlalchemy.exc
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from schemas.catalogue import LetterCode
from schemas.control import BrakeSetting
from schemas.events import PersonEvent
from schemas.jobs import FileRequest, Filter, JobRequest
from schemas.reinstate import ReinstateRequest
from tests.support import failpoints
from tests.support.lockstep import DYING, FAILING, PASSING, Fault, Lockstep
from tests.support.model import STANDING, Event, Job, Key, LetterKey
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import acts, remedies
from worker.errors import BrakeError, ConflictError, IdempotencyConflictError
from worker.jobs import brake, control
from worker.jobs.csv_input import uploaded_ids
from worker.jobs.reinstate import reinstate
from worker.jobs.submit import Requester, submit, submit_file
from worker.people import events, scim_users
from worker.people.scim_users import UserAttributes
from worker.rules import ACTIVE, ENDED, WITHDRAWN

FULL = os.environ.get("WITHDRAWALS_TEST_CHAOS") == "full"
SEED = int(os.environ.get("CHAOS_SEED", "0")) or (random.SystemRandom().randrange(1, 2**31) if FULL else 11)
EXAMPLES, STEPS = (150, 60) if FULL else (12, 40)

PEOPLE = ("p1", "p2", "p3")
SOURCES = ("hr", "payroll")
NOW = 10_000
"""Minutes of the model's clock from which on events happen when they are received."""
BASE = datetime.now(UTC) - timedelta(hours=3)

numbers = st.integers(0, 7)
whom = st.tuples(st.integers(0, 1), st.sampled_from(PEOPLE))
statuses = st.sampled_from([*ACTIVE, *ENDED, "on_hold"])
passing = st.none() | st.tuples(st.integers(1, 20), st.sampled_from([*PASSING, *DYING]))
retried = st.none() | st.tuples(st.integers(1, 20), st.sampled_from([*PASSING]))
anything = st.none() | st.tuples(st.integers(1, 30), st.sampled_from([*PASSING, *FAILING, *DYING]))


class Machine(RuleBasedStateMachine):
    """The steps. A number that is drawn picks one of what there is."""

    def __init__(self, db: Database, owner: Database, settings: Settings) -> None:
        super().__init__()
        _empty(owner)
        self.both = both = Lockstep(db, owner, settings)
        self.model = both.model
        self.organisations = [both.organisation("Acme"), both.organisation("Globex")]
        self.series = {o: [both.named("series", o, f"s{n}") for n in range(3)] for o in self.organisations}
        self.pathways = {o: [both.named("pathways", o, f"w{n}") for n in range(2)] for o in self.organisations}
        for number, organisation in enumerate(self.organisations):
            for person in PEOPLE[: 2 - number]:
                learner = both.add_learner(organisation, person)
                both.add_enrolment(learner, self.series[organisation][0], None, "in_progress")
                both.add_enrolment(learner, self.series[organisation][1], None, "no_attempts")
                for series in self.series[organisation][:2]:
                    both.add_enrolment(learner, series, self.pathways[organisation][0], "in_progress")
        self.clock = NOW
        self.submitted: list[tuple[Requester, JobRequest, int]] = []
        self.sent: list[tuple[Key, PersonEvent, Requester, str]] = []
        self.deleted: set[int] = set()
        self.keys = iter(range(1_000_000))

    def teardown(self) -> None:
        try:
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

    # Producers

    @rule(
        organisation=st.integers(0, 1),
        picks=st.lists(numbers, min_size=1, max_size=6),
        later=st.booleans(),
        fault=passing,
    )
    def submit_ids(self, organisation: int, picks: list[int], later: bool, fault: Fault | None) -> None:
        """Own ids, those of the other organisation, duplicates, and some that do not exist."""
        known = [*self.model.enrolments, 999]
        self._submit(organisation, fault, enrolment_ids=[known[pick * 3 % len(known)] for pick in picks], later=later)

    @rule(
        organisation=st.integers(0, 1), which=st.sampled_from(["series_id", "pathway_id"]), pick=numbers, fault=passing
    )
    def submit_filter(self, organisation: int, which: str, pick: int, fault: Fault | None) -> None:
        of = self.organisations[organisation]
        places = self.series[of] if which == "series_id" else self.pathways[of]
        self._submit(organisation, fault, filter=Filter.model_validate({which: places[pick % len(places)]}))

    @rule(person=whom, later=st.booleans(), fault=passing)
    def submit_person(self, person: tuple[int, str], later: bool, fault: Fault | None) -> None:
        self._submit(person[0], fault, learner_external_id=person[1], later=later)

    def _submit(self, organisation: int, fault: Fault | None, *, later: bool = False, **selection: Any) -> None:
        of = self.organisations[organisation]
        when = {"effective_at": datetime.now(UTC) + timedelta(days=9)} if later else {}
        request = JobRequest(reason="not_required", **selection, **when)
        requester = Requester(of, "test:admin", "cli", f"key-{next(self.keys)}")
        done = self.both.insisted(lambda: submit(self.both.db, requester, request, chunk_size=3), fault)
        (new,) = self.both.new_jobs()
        assert new.id == done.job.id
        ids = None if request.learner_external_id else self._selected(of, request)
        self.model.submit(new.id, Job(of, ids, request.learner_external_id, later=later))
        self.submitted.append((requester, request, new.id))
        self.both.compare()

    def _selected(self, organisation: int, request: JobRequest) -> frozenset[int]:
        if request.filter is None:
            return frozenset(request.enrolment_ids or ())
        return frozenset(
            i
            for i, enrolment in self.model.enrolments.items()
            if enrolment.organisation == organisation
            and enrolment.status not in (WITHDRAWN, *ENDED)
            and request.filter.series_id in (None, enrolment.series)
            and request.filter.pathway_id in (None, enrolment.pathway)
        )

    @rule(organisation=st.integers(0, 1), picks=st.lists(numbers, min_size=1, max_size=6), fault=passing)
    def submit_file(self, organisation: int, picks: list[int], fault: Fault | None) -> None:
        """A stream can be read only once, so it is not repeated: who sent it sends it again."""
        known, of = [*self.model.enrolments, 999], self.organisations[organisation]
        ids = [known[pick * 3 % len(known)] for pick in picks]
        body = "\n".join(["enrolment_id", *map(str, ids)]).encode()
        requester = Requester(of, "test:admin", "api", f"key-{next(self.keys)}")

        def send() -> int:
            with uploaded_ids(io.BytesIO(body)) as rows:
                return submit_file(
                    self.both.db, requester, FileRequest(reason="not_required"), rows, chunk_size=3
                ).job.id

        with suppress(sqlalchemy.exc.DBAPIError):
            self.both.survive(send, fault)
        job_id = send()
        (new,) = self.both.new_jobs()
        assert new.id == job_id
        self.model.submit(job_id, Job(of, frozenset(ids)))
        self.both.compare()

    @precondition(lambda self: self.submitted)
    @rule(pick=numbers, other=st.booleans(), fault=passing)
    def repeat_a_key(self, pick: int, other: bool, fault: Fault | None) -> None:
        """The same body gets the same job; another one is refused."""
        requester, request, job_id = self.submitted[pick % len(self.submitted)]
        if not other:
            done = self.both.insisted(lambda: submit(self.both.db, requester, request, chunk_size=3), fault)
            assert (done.job.id, done.created) == (job_id, False)
        else:
            changed = request.model_copy(update={"reason": "learner_declined"})
            with pytest.raises(IdempotencyConflictError):
                self.both.insisted(lambda: submit(self.both.db, requester, changed, chunk_size=3), fault)
        self.both.compare()

    @rule(pick=numbers, fault=passing)
    def undo(self, pick: int, fault: Fault | None) -> None:
        done = [(j, job) for j, job in self.model.jobs.items() if job.reinstates is None]
        if not done:
            return
        job_id, job = done[pick % len(done)]
        requester = Requester(job.organisation, "test:admin", "cli", f"key-{next(self.keys)}")

        def ask() -> int:
            return reinstate(self.both.db, requester, job_id, ReinstateRequest(), chunk_size=3).job.id

        if job.state in STANDING:
            with pytest.raises(ConflictError):
                self.both.insisted(ask, fault)
        else:
            selected = self.model.still_withdrawn(job_id)
            try:
                made = self.both.insisted(ask, fault)
            except ConflictError:
                assert self._in_flight(job_id)
            else:
                (new,) = self.both.new_jobs()
                assert new.id == made
                self.model.submit(made, Job(job.organisation, selected, reinstates=job_id))
        self.both.compare()

    def _in_flight(self, job_id: int) -> bool:
        """A letter of it is being tried, or what was running when it was cancelled is not back yet."""
        return any(ref[0] == job_id for letter in self.model.letters.values() for ref in letter.trying)

    # HR systems and SCIM

    @rule(
        person=whom,
        source=st.sampled_from(SOURCES),
        deactivates=st.booleans(),
        minute=st.integers(0, 5) | st.just(NOW),
        sequence=st.none() | st.integers(0, 4),
        later=st.booleans(),
        fault=passing,
    )
    def hr_event(
        self, person: tuple[int, str], source: str, deactivates: bool, minute: int, sequence: int | None, later: bool,
        fault: Fault | None,
    ) -> None:  # fmt: skip
        """In any order, late, with and without a sequence."""
        of = self.organisations[person[0]]
        later = later and deactivates
        event = PersonEvent(
            type="user.deactivated" if deactivates else "user.reactivated",
            external_id=person[1],
            occurred_at=None if minute == NOW else BASE + timedelta(minutes=minute),
            sequence=sequence,
            effective_at=datetime.now(UTC) + timedelta(days=9) if later else None,
        )
        requester = Requester(of, f"hr:{source}", f"hr:{source}", f"event-{next(self.keys)}")
        receipt = self.both.insisted(lambda: events.record(self.both.db, requester, source, event), fault)
        time = self._now() if minute == NOW else minute
        self._follow_event((of, person[1]), Event(source, deactivates, time, sequence), later=later)
        self.sent.append(((of, person[1]), event, requester, str(receipt.status)))
        self.both.compare()

    @precondition(lambda self: self.sent)
    @rule(pick=numbers, other=st.booleans(), fault=passing)
    def repeat_an_event(self, pick: int, other: bool, fault: Fault | None) -> None:
        _, event, requester, status = self.sent[pick % len(self.sent)]
        source = requester.door.removeprefix("hr:")
        if other:
            event = event.model_copy(update={"sequence": 77})
            with pytest.raises(IdempotencyConflictError):
                self.both.insisted(lambda: events.record(self.both.db, requester, source, event), fault)
        else:
            again = self.both.insisted(lambda: events.record(self.both.db, requester, source, event), fault)
            assert (again.repeated, str(again.status)) == (True, status)
        self.both.compare()

    def _now(self) -> int:
        self.clock += 1
        return self.clock

    def _follow_event(self, key: Key, event: Event, *, later: bool = False) -> None:
        makes_a_job = self.model.event(key, event, later=later)
        made = self.both.new_jobs()
        assert len(made) == (1 if makes_a_job else 0), (makes_a_job, made)
        for new in made:
            person = self.model.persons[key]
            assert (new.learner_external_id, new.epoch) == (key[1], person.epoch)
            due_later = not person.in_effect
            self.model.submit(new.id, Job(key[0], None, key[1], new.epoch, later=due_later))

    @rule(person=whom, active=st.booleans(), fault=retried)
    def scim_changes_active(self, person: tuple[int, str], active: bool, fault: Fault | None) -> None:
        found = self._user(person)
        if found is None:
            return
        learner_id, key = found

        def wanted(before: UserAttributes) -> UserAttributes:
            return UserAttributes(before.user_name, before.external_id, before.display_name, active)

        def change() -> object:
            return scim_users.change(
                self.both.db, organisation_id=key[0], actor="scim:idp", learner_id=learner_id, wanted=wanted
            )

        changes = self.model.learners[learner_id].active is not active
        self.both.act(change, fault)
        if changes:
            self._follow_event(key, Event("scim", not active, self._now()))
        self.both.compare()

    @rule(person=whom, fault=retried)
    def scim_deletes(self, person: tuple[int, str], fault: Fault | None) -> None:
        found = self._user(person)
        if found is None:
            return
        learner_id, key = found

        def delete() -> None:
            scim_users.delete(self.both.db, organisation_id=key[0], actor="scim:idp", learner_id=learner_id)

        was_active = self.model.learners[learner_id].active
        self.both.act(delete, fault)
        self.deleted.add(learner_id)
        if was_active:
            self._follow_event(key, Event("scim", True, self._now()))
        self.both.compare()

    @rule(person=whom, active=st.booleans(), fault=retried)
    def scim_creates(self, person: tuple[int, str], active: bool, fault: Fault | None) -> None:
        """Somebody new, or somebody who was deleted."""
        key = (self.organisations[person[0]], person[1])
        wanted = UserAttributes(person[1], person[1], None, active)
        learner = self.model.learner(key)
        if learner is not None and not (self.deleted & {i for i, one in self.model.learners.items() if one is learner}):
            return

        def create() -> int:
            return scim_users.create(self.both.db, organisation_id=key[0], actor="scim:idp", wanted=wanted).id

        learner_id = self.both.act(create, fault)
        if learner is not None:
            self.deleted.discard(learner_id)
            if learner.active is not active:
                self._follow_event(key, Event("scim", not active, self._now()))
        else:
            self.model.add_user(learner_id, key, active=active)
        self.both.compare()

    def _user(self, person: tuple[int, str]) -> tuple[int, Key] | None:
        key = (self.organisations[person[0]], person[1])
        return next(
            ((i, key) for i, one in self.model.learners.items() if one.key == key and i not in self.deleted), None
        )

    # People who steer jobs, and support

    @rule(act=st.sampled_from(["pause", "resume", "cancel", "release"]), pick=numbers, fault=retried)
    def steer(self, act: str, pick: int, fault: Fault | None) -> None:
        if not self.model.jobs:
            return
        job_id = sorted(self.model.jobs)[-1 - pick % len(self.model.jobs)]
        self._steer(act, job_id, fault)
        self.both.compare()

    def _steer(self, act: str, job_id: int, fault: Fault | None = None, db: Database | None = None) -> None:
        job = self.model.jobs[job_id]
        who: dict[str, Any] = {"organisation_id": job.organisation, "job_id": job_id, "actor": "test:approver"}
        do: Callable[..., Any] = getattr(control, act)
        allowed = {
            "pause": ("queued", "paused"),
            "resume": ("queued", "paused"),
            "cancel": (*STANDING, job.state),
            "release": ("held", *([job.state] if job.released and job.state != "cancelled" else [])),
        }[act]
        if job.state not in allowed:
            with pytest.raises(ConflictError):
                self.both.act(lambda: do(db or self.both.db, **who), fault)
            return
        self.both.act(lambda: do(db or self.both.db, **who), fault)
        match act, job.state:
            case "pause", _:
                job.state = "paused"
            case "resume", _:
                job.state = "queued"
            case "cancel", _:
                self.model.cancel(job_id)
            case "release", "held":
                job.state, job.released = "scheduled", True

    @rule(organisation=st.integers(0, 1), on=st.booleans(), fault=retried)
    def set_the_brake(self, organisation: int, on: bool, fault: Fault | None) -> None:
        """On: everything is too much."""
        of = self.organisations[organisation]
        wanted = BrakeSetting(floor=0, share=0.0, hours=1) if on else BrakeSetting()
        self.both.act(
            lambda: brake.set_limits(self.both.db, organisation_id=of, wanted=wanted, actor="test:owner"), fault
        )
        (self.both.braked.add if on else self.both.braked.discard)(of)
        self.both.compare()

    @rule(pick=numbers, which=numbers, fault=retried)
    def decide_a_letter(self, pick: int, which: int, fault: Fault | None) -> None:
        found = self.both.open_letters()
        if not found:
            return
        letter_id, key = found[pick % len(found)]
        letter = self.model.letters[key]
        known = list(acts.remedies(LetterCode(key[3])))
        act = known[which % len(known)]
        about_a_person = any(self.model.jobs[ref[0]].epoch is not None for ref in letter.refs)
        if act == "cascade" and about_a_person:
            return
        siblings = self._siblings(key) if act == "cascade" else frozenset()
        who: dict[str, Any] = {"organisation_id": key[0], "letter_ids": [letter_id], "actor": "test:approver"}

        def do() -> None:
            match act:
                case "redrive":
                    remedies.redrive(self.both.db, **who)
                case "discard":
                    remedies.discard(self.both.db, **who)
                case _:
                    remedies.resolve(self.both.db, remedy=act, note="why", **who)

        try:
            self.both.act(do, fault)
        except BrakeError:
            assert key[0] in self.both.braked
            return
        if siblings:
            (new,) = self.both.new_jobs()
            self.model.submit(new.id, Job(key[0], siblings, override=letter.pathway))
        if act in acts.ATTEMPTS:
            self.model.redrive(key, override=act in ("override", "cascade"))
        else:
            self.model.close(key)
        self.both.compare()

    def _siblings(self, key: LetterKey) -> frozenset[int]:
        """The learner's other active enrolments in the pathway, if it still is the one that the letter saw."""
        enrolment = self.model.enrolments.get(key[1] or 0)
        if enrolment is None or enrolment.organisation != key[0]:
            return frozenset()
        pathway = enrolment.pathway
        if pathway is None or pathway != self.model.letters[key].pathway:
            return frozenset()
        return frozenset(
            i
            for i, other in self.model.enrolments.items()
            if other is not enrolment
            and (other.learner, other.pathway) == (enrolment.learner, pathway)
            and other.status in ACTIVE
        )

    # The platform

    @rule(pick=numbers, status=statuses | st.just(WITHDRAWN))
    def platform_changes_a_status(self, pick: int, status: str) -> None:
        self._change_status(pick, status)
        self.both.compare()

    def _change_status(self, pick: int, status: str) -> None:
        found = self._pick(pick)
        if found is None:
            return
        with suppress(sqlalchemy.exc.DBAPIError):  # another one is active in its place; or somebody holds the row
            self.both.run(
                """UPDATE lms.enrolments SET status = :s, withdrawn_at = CASE WHEN :s = 'withdrawn' THEN now() END,
                withdrawal_reason = NULL, withdrawn_by = NULL WHERE id = :id""",
                s=status,
                id=found,
            )
            enrolment = self.model.enrolments[found]
            enrolment.status, enrolment.withdrawn_by = status, None

    @rule(pick=numbers, pathway=st.none() | st.integers(0, 1))
    def platform_changes_who_owns(self, pick: int, pathway: int | None) -> None:
        self._change_pathway(pick, pathway)
        self.both.compare()

    def _change_pathway(self, pick: int, pathway: int | None) -> None:
        found = self._pick(pick)
        if found is None:
            return
        enrolment = self.model.enrolments[found]
        owner = None if pathway is None else self.pathways[enrolment.organisation][pathway]
        with suppress(sqlalchemy.exc.DBAPIError):
            self.both.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = :id", p=owner, id=found)
            enrolment.pathway = owner

    @rule(person=whom, series=st.integers(0, 2), pathway=st.none() | st.integers(0, 1), status=statuses)
    def platform_enrols(self, person: tuple[int, str], series: int, pathway: int | None, status: str) -> None:
        self._enrol(person, series, pathway, status)
        self.both.compare()

    def _enrol(self, person: tuple[int, str], series: int, pathway: int | None, status: str) -> frozenset[int]:
        of = self.organisations[person[0]]
        learner = next((i for i, one in self.model.learners.items() if one.key == (of, person[1])), None)
        owner = None if pathway is None else self.pathways[of][pathway]
        if learner is not None and len(self.model.enrolments) < 30:
            with suppress(sqlalchemy.exc.DBAPIError):
                return frozenset([self.both.add_enrolment(learner, self.series[of][series], owner, status)])
        return frozenset()

    @rule(pick=numbers)
    def platform_deletes_an_enrolment(self, pick: int) -> None:
        found = self._pick(pick)
        if found is not None and len(self.model.enrolments) > 6:
            self.both.run("DELETE FROM lms.enrolments WHERE id = :id", id=found)
            del self.model.enrolments[found]
            self.both.compare()

    @rule(person=whom)
    def platform_deletes_or_creates_a_learner(self, person: tuple[int, str]) -> None:
        key = (self.organisations[person[0]], person[1])
        learner = next((i for i, one in self.model.learners.items() if one.key == key), None)
        if learner is None:
            self.both.add_learner(*key)
        else:
            self.both.run("DELETE FROM lms.enrolments WHERE learner_id = :id", id=learner)
            self.both.run("DELETE FROM lms.learners WHERE id = :id", id=learner)
            self.model.forget_learner(learner)
        self.both.compare()

    def _pick(self, pick: int) -> int | None:
        ids = sorted(self.model.enrolments)
        return ids[pick * 3 % len(ids)] if ids else None

    # The clock, workers, the relay

    @rule()
    def time_passes(self) -> None:
        self._time_passes()
        self.both.compare()

    def _time_passes(self) -> None:
        for table in ("jobs", "persons", "person_events"):
            self.both.run(f"UPDATE withdrawals.{table} SET effective_at = now() WHERE effective_at > now()")
        self.model.time_passes()

    @rule()
    def backoffs_and_leases_pass(self) -> None:
        self.both.run("UPDATE withdrawals.chunks SET run_after = now() WHERE state = 'ready'")
        self.both.leases_run_out()
        self.both.compare()

    @rule(fault=passing)
    def worker_claims(self, fault: Fault | None) -> None:
        self.both.claim(fault)
        self.both.compare()

    @precondition(lambda self: self.both.hands)
    @rule(pick=numbers, fault=anything)
    def worker_decides(self, pick: int, fault: Fault | None) -> None:
        """A claim in hand, whether or not it still is its own."""
        hands = self.both.hands
        self.both.apply(hands.pop(pick % len(hands)), fault)
        self.both.compare()

    @precondition(lambda self: self.both.hands)
    @rule(
        pick=numbers,
        nth=st.integers(1, 24),
        what=st.sampled_from(["status", "owner", "enrol", "pause", "cancel"]),
        other=numbers,
        person=whom,
    )
    def worker_decides_while_something_happens(
        self, pick: int, nth: int, what: str, other: int, person: tuple[int, str]
    ) -> None:
        """Between two statements of a worker, somebody else commits; or waits for a lock, and gives up."""
        added: frozenset[int] = frozenset()

        def meanwhile() -> None:
            nonlocal added
            match what:
                case "status":
                    self._change_status(other, ENDED[0])
                case "owner":
                    self._change_pathway(other, other % 2)
                case "enrol":
                    added = self._enrol(person, other % 3, None, "in_progress")
                case _:
                    job_id = sorted(self.model.jobs)[-1 - other % len(self.model.jobs)]
                    with suppress(sqlalchemy.exc.DBAPIError):
                        self._steer(what, job_id, db=self.impatient)

        hands = self.both.hands
        self.both.apply(hands.pop(pick % len(hands)), (nth, "meanwhile"), meanwhile)
        self.both.compare(added=added, running=True)

    @rule()
    def workers_drain(self) -> None:
        for _ in range(20):
            claim = self.both.drain._claim()
            if claim is None:
                break
            self.both.drain._handle(claim)
            self.both.compare()

    @rule(
        step=st.sampled_from(["take_over", "deactivate", "admit", "close", "learners", "daily", "runs", "finish"]),
        fault=anything,
    )
    def relay_takes_a_step(self, step: str, fault: Fault | None) -> None:
        self.both.relay_step(step, fault)

    impatient: Database


def _empty(owner: Database) -> None:
    """Every table, but not the schema: a hundred times faster than a new database."""
    with owner.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        found = connection.exec_driver_sql(
            """SELECT string_agg(schemaname || '.' || tablename, ', ') FROM pg_tables
            WHERE schemaname IN ('lms', 'withdrawals') AND NOT starts_with(tablename, 'alembic')"""
        ).scalar_one()
        connection.exec_driver_sql(f"TRUNCATE {found} RESTART IDENTITY CASCADE")


@pytest.mark.timeout(3000 if FULL else 480)
def test_whatever_happens_the_service_does_what_its_model_says(
    db: Database, owner: Database, environment: Settings
) -> None:
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    settings = environment.model_copy(
        update={
            "chunk_size": 6,
            "max_attempts": 2,
            "max_claims": 2,
            "backoff_seconds": 0.001,
            "backoff_max_seconds": 0.002,
        }
    )
    impatient = Database(environment.model_copy(update={"lease_seconds": 2.0}), pool_size=2)

    @hypothesis.seed(SEED)
    def machine() -> Machine:
        made = Machine(db, owner, settings)
        made.impatient = impatient
        return made

    try:
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type] # any callable that makes one
            settings=hypothesis.settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                report_multiple_bugs=False,
                print_blob=False,
            ),
        )
    finally:
        impatient.close()
        failpoints.uninstall()
