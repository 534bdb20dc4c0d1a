"""HR systems and SCIM: who is deactivated and who comes back, in any order, late and repeated."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy.exc
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schemas.catalogue import ReceiptStatus
from schemas.events import PersonEvent
from tests.support.lockstep import Fault
from tests.support.model_values import Event, Key, Policy
from tests.support.state_machine.base import BASE, DAYS, LATER, NOW, SOURCES, Base, numbers, passing, retried, whom
from worker.database import Database
from worker.errors import IdempotencyConflictError
from worker.jobs.submit import Requester
from worker.ledger.hr_sources import RegisteredSource
from worker.people import events, hr_sources, inbox, scim_users
from worker.people.events import EventReceipt
from worker.people.inbox import IncomingEvent
from worker.people.scim_users import UserAttributes

said = st.builds(
    lambda source, deactivates, time, sequence, later: Event(
        source, deactivates, time, sequence, later if deactivates else 0
    ),
    st.sampled_from(SOURCES),
    st.booleans(),
    st.integers(0, 5) | st.just(NOW),
    st.none() | st.integers(0, 4),
    st.sampled_from((0, 0, *DAYS)),
)
"""What a source says of a person; only a deactivation can take effect later."""


class People(Base):
    """What HR systems and an identity provider say about persons."""

    @rule(person=whom, said=said, fault=passing)
    def hr_event(self, person: tuple[int, str], said: Event, fault: Fault | None) -> None:
        """In any order, late, with and without a sequence."""
        self._say((self.organisations[person[0]], person[1]), said, fault)
        self.both.compare()

    @precondition(lambda self: any(person.events for person in self.model.persons.values()))
    @rule(pick=numbers, fault=passing)
    def hr_says_the_same_again(self, pick: int, fault: Fault | None) -> None:
        """As a system does that sends everybody's state every night."""
        known = [(key, event) for key, person in self.model.persons.items() for event in person.events.values()]
        key, event = known[pick % len(known)]
        if event.source in SOURCES:
            number = None if event.sequence is None else event.sequence + 1
            self._say(key, replace(event, time=NOW, sequence=number), fault)
            self.both.compare()

    @rule(person=whom, said=said, fault=passing, applying=passing)
    def hr_event_by_webhook(
        self, person: tuple[int, str], said: Event, fault: Fault | None, applying: Fault | None
    ) -> None:
        """Through the inbox: stored at the door, and applied by workers, one of which may die of it."""
        key = (self.organisations[person[0]], person[1])
        event = self._event(key, said)
        sender = RegisteredSource(0, key[0], said.source, "standard", "withdraw", 0, BASE, "test:owner", None, None)
        given = IncomingEvent(f"event-{next(self.keys)}", repr(event).encode(), event)
        receipt = self.both.insisted(lambda: inbox.receive(self.both.db, sender, given), fault)
        self.both.survive(self.both.drain._inbox.step, applying)
        while self.both.run("UPDATE withdrawals.receipts SET run_after = now() WHERE waiting RETURNING id"):
            self.both.drain._inbox.step()
        answer = self._follow_event(key, replace(said, time=self._now()) if said.time == NOW else said)
        assert isinstance(receipt, EventReceipt)
        (row,) = self.both.run("SELECT status FROM withdrawals.receipts WHERE id = :id", id=receipt.id)
        assert row.status == answer, f"{said} is {row.status}, not {answer}"
        again = inbox.receive(self.both.db, sender, given)
        assert again == EventReceipt(receipt.id, ReceiptStatus.ACCEPTED, repeated=True)
        self.both.compare()

    def _event(self, key: Key, said: Event) -> PersonEvent:
        return PersonEvent(
            type="user.deactivated" if said.deactivates else "user.reactivated",
            external_id=key[1],
            occurred_at=None if said.time == NOW else BASE + timedelta(minutes=said.time),
            sequence=said.sequence,
            effective_at=LATER[said.later] if said.later else None,
        )

    def _say(self, key: Key, said: Event, fault: Fault | None) -> None:
        event = self._event(key, said)
        requester = Requester(key[0], f"hr:{said.source}", f"hr:{said.source}", f"event-{next(self.keys)}")
        receipt = self.both.insisted(lambda: self._record(self.both.db, requester, event), fault)
        answer = self._follow_event(key, replace(said, time=self._now()) if said.time == NOW else said)
        assert str(receipt.status) == answer, f"{said} is {receipt.status}, not {answer}"
        self.sent.append((key, event, requester, str(receipt.status)))

    def _record(self, database: Database, requester: Requester, event: PersonEvent) -> EventReceipt:
        """Record an event at once, as the command line does."""
        return events.record(database, requester, requester.door.removeprefix("hr:"), event)

    @rule(
        organisation=st.integers(0, 1),
        source=st.sampled_from(SOURCES),
        act=st.sampled_from(hr_sources.POLICIES),
        grace=st.booleans(),
    )
    def owner_sets_a_policy(self, organisation: int, source: str, act: str, grace: bool) -> None:
        """By a source of the same name that takes the place of the one before."""
        of = self.organisations[organisation]
        if (of, source) in self.source_ids:
            hr_sources.disable(
                self.both.db, organisation_id=of, source_id=self.source_ids[of, source], actor="test:owner"
            )
        made = hr_sources.create(
            self.both.db, self.settings, organisation_id=of, name=source, kind="standard", actor="test:owner",
            on_deactivate=act, grace_hours=216 if grace else 0,
        )  # fmt: skip
        self.source_ids[of, source] = made.source.id
        self.model.policies[of, source] = Policy(act, grace)
        self.both.compare()

    def _say_impatiently(self, person: tuple[int, str], *, deactivates: bool) -> None:
        """In the middle of somebody else's transaction: one who waits for a lock gives up."""
        key = (self.organisations[person[0]], person[1])
        event = PersonEvent(type="user.deactivated" if deactivates else "user.reactivated", external_id=person[1])
        requester = Requester(key[0], "hr:hr", "hr:hr", f"event-{next(self.keys)}")
        with suppress(sqlalchemy.exc.DBAPIError):
            self._record(self.both.impatient, requester, event)
            self._follow_event(key, Event("hr", deactivates, self._now()))

    @precondition(lambda self: self.sent)
    @rule(pick=numbers, other=st.booleans(), fault=passing)
    def repeat_an_event(self, pick: int, other: bool, fault: Fault | None) -> None:
        _, event, requester, status = self.sent[pick % len(self.sent)]
        if other:
            event = event.model_copy(update={"sequence": 77})
            with pytest.raises(IdempotencyConflictError):
                self.both.insisted(lambda: self._record(self.both.db, requester, event), fault)
        else:
            again = self.both.insisted(lambda: self._record(self.both.db, requester, event), fault)
            assert (again.repeated, str(again.status)) == (True, status)
        self.both.compare()

    def _now(self) -> int:
        self.clock += 1
        return self.clock

    def _follow_event(self, key: Key, event: Event) -> str:
        """What the event must have been answered, and the job that it must have made."""
        answer, job = self.model.event(key, event)
        made = self.both.new_jobs()
        assert len(made) == (job is not None), (job, made)
        if job is None:
            return answer
        (new,) = made
        assert (new.learner_external_id, new.epoch) == (job.person, job.epoch)
        self.model.submit(new.id, job)
        if answer == "accepted" and new.state == "held":
            assert key[0] in self.both.braked
            return "held"
        return answer

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
            self.of_scim.add(key)
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
        self.of_scim.add(key)
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
        if self.model.learners[learner_id].active is not active and (learner is not None or key in self.of_scim):
            self._follow_event(key, Event("scim", not active, self._now()))
        self.of_scim.add(key)
        self.both.compare()

    def _user(self, person: tuple[int, str]) -> tuple[int, Key] | None:
        key = (self.organisations[person[0]], person[1])
        return next(
            ((i, key) for i, one in self.model.learners.items() if one.key == key and i not in self.deleted), None
        )
