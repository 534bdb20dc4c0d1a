"""HR systems and SCIM: who is deactivated and who comes back, in any order, late and repeated."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schemas.events import PersonEvent
from tests.support.lockstep import Fault
from tests.support.model_values import Event, Job, Key
from tests.support.state_machine.base import BASE, NOW, SOURCES, Base, numbers, passing, retried, whom
from worker.errors import IdempotencyConflictError
from worker.jobs.submit import Requester
from worker.people import events, scim_users
from worker.people.scim_users import UserAttributes


class People(Base):
    """What HR systems and an identity provider say about persons."""

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

    def _say_impatiently(self, person: tuple[int, str], *, deactivates: bool) -> None:
        """In the middle of somebody else's transaction: one who waits for a lock gives up."""
        key = (self.organisations[person[0]], person[1])
        event = PersonEvent(type="user.deactivated" if deactivates else "user.reactivated", external_id=person[1])
        requester = Requester(key[0], "hr:hr", "hr:hr", f"event-{next(self.keys)}")
        with suppress(sqlalchemy.exc.DBAPIError):
            events.record(self.both.impatient, requester, "hr", event)
            self._follow_event(key, Event("hr", deactivates, self._now()))

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
            self.known_to_scim.add(key)
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
        self.known_to_scim.add(key)
        if was_active:
            self._follow_event(key, Event("scim", True, self._now()))
        self.both.compare()

    @rule(person=whom, active=st.booleans(), fault=retried)
    def scim_creates(self, person: tuple[int, str], active: bool, fault: Fault | None) -> None:
        """Somebody new, or somebody who was deleted. Of somebody whom SCIM knew before it is a change of `active`."""
        key = (self.organisations[person[0]], person[1])
        wanted = UserAttributes(person[1], person[1], None, active)
        learner = self.model.learner(key)
        if learner is not None and not (self.deleted & {i for i, one in self.model.learners.items() if one is learner}):
            return

        def create() -> int:
            return scim_users.create(self.both.db, organisation_id=key[0], actor="scim:idp", wanted=wanted).id

        learner_id = self.both.act(create, fault)
        self.deleted.discard(learner_id)
        if learner is None:
            self.model.add_user(learner_id, key, active=active)
        if self.model.learners[learner_id].active is not active and (learner is not None or key in self.known_to_scim):
            self._follow_event(key, Event("scim", not active, self._now()))
        self.known_to_scim.add(key)
        self.both.compare()

    def _user(self, person: tuple[int, str]) -> tuple[int, Key] | None:
        key = (self.organisations[person[0]], person[1])
        return next(
            ((i, key) for i, one in self.model.learners.items() if one.key == key and i not in self.deleted), None
        )
