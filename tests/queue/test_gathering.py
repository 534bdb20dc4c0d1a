"""The drain in a storm: events gather while chunks are decided, and none is left behind."""

import uuid
from typing import Any

import pytest

from tests.support.incoming import incoming, make_registered, post, waiting
from tests.support.racing import chunks
from tests.world import World, assert_balanced
from worker.config import Settings
from worker.database import Database
from worker.ledger.inbox_sets import WaitingEvent
from worker.people import inbox
from worker.people.inbox import AppliedSet
from worker.queue import drain as drains
from worker.queue import inbox as inboxes
from worker.queue.drain import INBOX_EVERY, Drain
from worker.records import Claim


class Busy(Drain):
    """A drain that always finds so many claims, each of which takes a while of the test's own clock."""

    def __init__(self, db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, *, claims: int) -> None:
        super().__init__(db, settings)
        self.looks, self.now, self.each = 0, 0.0, 0.0
        self._left = claims
        monkeypatch.setattr(drains, "clock", lambda: self.now)
        monkeypatch.setattr(self._inbox, "step", self._look)

    def _look(self) -> bool:
        self.looks += 1
        return False

    def _claim_and_look(self) -> tuple[Claim | None, bool]:
        self._left -= 1
        assert self._left >= 0, "a run ends, although events come all the time"
        return Claim(uuid.uuid4(), [1], more=self._left > 0), True  # events come all the time

    def _claim(self) -> Claim | None:
        return self._claim_and_look()[0]

    def _handle(self, claim: Claim, *, go_on: bool = False) -> Claim | None:
        self.now += self.each
        return None


@pytest.mark.parametrize(("each", "looks"), [(0.0, 1), (INBOX_EVERY / 5, 2), (INBOX_EVERY, 8)])
def test_a_thread_busy_with_chunks_looks_for_events_a_few_times_a_second(
    db: Database, environment: Settings, monkeypatch: pytest.MonkeyPatch, each: float, looks: int
) -> None:
    """Neither after every claim, which would make small sets, nor only at the end of a bulk job."""
    busy = Busy(db, environment, monkeypatch, claims=8)
    busy.each = each
    assert busy.run() == 8
    assert busy.looks == looks


def test_what_comes_while_a_set_is_applied_waits_for_the_next_look(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    apply_set = inbox.apply_set
    late = [incoming("ben")]

    def apply_slowly(
        connection: object, organisation_id: int, events: list[WaitingEvent], **key: str | None
    ) -> AppliedSet:
        if late:
            post(db, source, late.pop())
        return apply_set(connection, organisation_id, events, **key)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "apply_set", apply_slowly)
    post(db, source, incoming("anna"))
    Drain(db, environment).run()
    assert waiting(world) == ["ben"], "the relay, which is notified of it, wakes a worker"
    Drain(db, environment).run()
    assert waiting(world) == []
    assert_balanced(db)


def test_one_run_applies_all_sets_that_wait(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two organisations, with more events than a set holds, and two of one person."""
    monkeypatch.setattr(inboxes, "SET", 2)
    for organisation_id in (world.organisation_id, world.organisation("Other")):
        source = make_registered(db, environment, organisation_id)
        post(db, source, *map(incoming, ["anna", "ben", "cleo", "dan", "eve"]), incoming("anna", "reactivated", 5))
    Drain(db, environment).run()
    assert waiting(world) == []
    assert_balanced(db)


def test_whoever_came_in_vain_while_a_set_was_applied_is_woken_again(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker at a time applies an organisation's inbox: the hint of events that came meanwhile may be spent."""
    source = make_registered(db, environment, world.organisation_id)
    post(db, source, incoming("anna", "reactivated"))
    told: list[bool] = []
    monkeypatch.setattr(db._notifier, "notify", lambda: told.append(True))
    Drain(db, environment).run()
    assert waiting(world) == []
    assert told == [True]
    Drain(db, environment).run()
    assert told == [True], "a look in vain tells nobody"


def test_a_claim_that_waited_for_long_for_a_set_of_events_is_taken_anew(
    db: Database, world: World, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease would run out: then its chunks would count as what stops workers, and in the end be a dead letter."""
    now = [0.0]
    monkeypatch.setattr(drains, "clock", lambda: now[0])
    drain = Drain(db, environment)
    step, tokens = drain._inbox.step, list[Any]()

    def look_slowly() -> bool:
        tokens.extend(world.run("SELECT token, lease_until FROM withdrawals.chunks"))
        now[0] += environment.lease_seconds * 0.6
        return step()

    monkeypatch.setattr(drain._inbox, "step", look_slowly)
    post(db, make_registered(db, environment, world.organisation_id), incoming("anna"))
    one = world.enrolment(pathway_id=world.pathway())  # not plain: decided after the events
    job = world.submit(db, [one])
    drain.run()
    ((first, _),) = tokens[:1]
    (found,) = chunks(world, job.id, "state, claims, token")
    assert (found.state, found.claims) == ("done", 1)
    assert first not in (None, found.token)
    assert_balanced(db)
