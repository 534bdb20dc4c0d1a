"""What the inbox applies in sets is what the same events do one after the other; and it costs a few statements."""

import itertools
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.control import BrakeSetting
from schemas.events import PersonEvent
from tests.support.incoming import START, counting_statements, incoming, make_registered, post, results, waiting
from tests.support.load import MORE
from tests.world import World, apply_inbox, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.errors import IdempotencyConflictError
from worker.jobs import brake
from worker.jobs.submit import Requester
from worker.ledger.hr_sources import RegisteredSource
from worker.people import events, hr_sources, inbox
from worker.people.inbox import Inbox

SOURCES: dict[str, dict[str, Any]] = {
    "withdraw": {},
    "hold": {"on_deactivate": "hold"},
    "ignore": {"on_deactivate": "ignore"},
    "late": {"grace_hours": 48},
}
PERSONS = ("anna", "ben", "cleo", "unknown")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Said:
    """An event, without the organisation that it is sent to."""

    person: str
    source: str
    kind: str
    minute: int | None
    sequence: int | None
    later: bool

    def about(self, suffix: str) -> PersonEvent:
        away = self.kind == "deactivated" and self.later
        return PersonEvent(
            type=f"user.{self.kind}",
            external_id=self.person + suffix,
            occurred_at=None if self.minute is None else START + timedelta(minutes=self.minute),
            sequence=self.sequence,
            effective_at=START.replace(year=2999) if away else None,
        )


said = st.builds(
    Said,
    person=st.sampled_from(PERSONS),
    source=st.sampled_from(list(SOURCES)),
    kind=st.sampled_from(["deactivated", "deactivated", "reactivated", "deactivation_cancelled"]),
    minute=st.none() | st.integers(0, 4),
    sequence=st.none() | st.integers(1, 3),
    later=st.booleans(),
)


def state_of(world: World, organisation_id: int, suffix: str) -> dict[str, list[Any]]:
    """What the events of one example have left in an organisation, without ids and times of the clock."""
    like = {"o": organisation_id, "s": f"%{suffix}"}
    return {
        "persons": world.run(
            """SELECT replace(external_id, :x, ''), epoch, active, effective_at > now(), deactivation_due
            FROM withdrawals.persons WHERE organisation_id = :o AND external_id LIKE :s ORDER BY 1""",
            x=suffix, **like,
        ),
        "events": world.run(
            """SELECT replace(external_id, :x, ''), source, type, sequence FROM withdrawals.person_events
            WHERE organisation_id = :o AND external_id LIKE :s ORDER BY 1, 2""",
            x=suffix, **like,
        ),
        "learners": world.run(
            """SELECT replace(external_id, :x, ''), active FROM lms.learners
            WHERE organisation_id = :o AND external_id LIKE :s ORDER BY 1""",
            x=suffix, **like,
        ),
        "jobs": world.run(
            """SELECT replace(j.learner_external_id, :x, ''), j.epoch, j.state, j.held_because, j.requested_by, j.door,
                j.learners, j.effective_at > now(), c.state, c.lane, c.size, c.number
            FROM withdrawals.jobs j JOIN withdrawals.chunks c ON c.job_id = j.id
            WHERE j.organisation_id = :o AND j.learner_external_id LIKE :s ORDER BY 1, j.id""",
            x=suffix, **like,
        ),
        "audit": world.run(
            """SELECT replace(detail ->> 'external_id', :x, ''), actor, action, detail ->> 'source'
            FROM withdrawals.audit WHERE organisation_id = :o AND detail ->> 'external_id' LIKE :s ORDER BY 1, id""",
            x=suffix, **like,
        ),
        "statuses": world.run(
            """SELECT idempotency_key, status, job_id IS NOT NULL FROM withdrawals.receipts
            WHERE organisation_id = :o AND idempotency_key LIKE :k ORDER BY 1""",
            k=f"{suffix}/%", o=organisation_id,
        ),
    }  # fmt: skip


def test_a_set_does_what_its_events_do_one_after_the_other(db: Database, world: World, environment: Settings) -> None:
    """Two organisations hear the same: one at once and one by one, the other from its inbox."""
    other_id = world.organisation("Other")
    registered: dict[str, RegisteredSource] = {}
    for name, policy in SOURCES.items():
        make_registered(db, environment, world.organisation_id, name, **policy)
        registered[name] = make_registered(db, environment, other_id, name, **policy)

    @settings(max_examples=MORE * 20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(st.tuples(said, st.booleans()), min_size=1, max_size=12))
    def hold(story: list[tuple[Said, bool]]) -> None:
        suffix = f"-{next(_numbers)}"
        for person in PERSONS[:-1]:
            world.enrolment(person + suffix)
            world.enrolment(person + suffix, organisation_id=other_id)
        for number, (one, applies) in enumerate(story):
            event, key = one.about(suffix), f"{suffix}/{number}"
            requester = Requester(world.organisation_id, f"hr:{one.source}", f"hr:{one.source}", key)
            events.record(db, requester, one.source, event)
            inbox.receive(db, registered[one.source], inbox.IncomingEvent(key, key.encode(), event=event))
            if applies:
                apply_inbox(db, environment)
        apply_inbox(db, environment)
        assert state_of(world, other_id, suffix) == state_of(world, world.organisation_id, suffix)

    hold()
    assert waiting(world) == []
    assert_balanced(db)


def test_two_events_of_a_person_in_one_storm_end_as_their_order_says(
    db: Database, world: World, environment: Settings
) -> None:
    """Whichever came first. Nobody is withdrawn while another event about them waits."""
    source = make_registered(db, environment, world.organisation_id)
    ids = {person: world.enrolment(person) for person in ("anna", "ben")}
    post(db, source, incoming("anna", minute=1), incoming("anna", "reactivated", minute=2),
         incoming("ben", "reactivated", minute=1), incoming("ben", minute=2))  # fmt: skip
    decide_due(db, environment)
    assert [world.status(ids[person]) for person in ids] == ["in_progress", "withdrawn"]
    assert (world.active("anna"), world.active("ben")) == (True, False)
    assert_balanced(db)


def test_a_set_past_the_brake_admits_what_fits_and_holds_the_others_one_by_one(
    db: Database, world: World, environment: Settings
) -> None:
    source = make_registered(db, environment, world.organisation_id)
    persons = [f"person-{number}" for number in range(10)]
    for person in persons:
        world.enrolment(person)
    wanted = BrakeSetting(floor=3, share=0.5, hours=24)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=wanted, actor="test:approver")
    post(db, source, *map(incoming, persons))
    apply_inbox(db, environment)
    rows = world.run("SELECT state, held_because, brake FROM withdrawals.jobs ORDER BY id")
    assert [row.state for row in rows] == ["queued"] * 5 + ["held"] * 5, "the oldest fit"
    assert {(row.held_because, row.brake["learners"], row.brake["before"]) for row in rows[5:]} == {("brake", 1, 5)}
    assert world.one("SELECT sum(jobs) FROM withdrawals.brake_volume") == 5
    assert [status for status, _ in results(world)] == ["accepted"] * 5 + ["held"] * 5
    assert_balanced(db)


def test_a_source_that_is_disabled_meanwhile_does_not_undo_what_was_accepted(
    db: Database, world: World, environment: Settings
) -> None:
    """The event keeps the policy of its source."""
    source = make_registered(db, environment, world.organisation_id, on_deactivate="hold")
    world.enrolment("anna")
    post(db, source, incoming("anna"))
    hr_sources.disable(db, organisation_id=world.organisation_id, source_id=source.id, actor="test:approver")
    apply_inbox(db, environment)
    assert results(world) == [("held", False)]


def test_an_applied_receipt_names_nobody_any_more(db: Database, world: World, environment: Settings) -> None:
    source = make_registered(db, environment, world.organisation_id)
    post(db, source, incoming("anna"))
    assert waiting(world) == ["anna"]
    apply_inbox(db, environment)
    assert world.one("SELECT r::text LIKE '%anna%' FROM withdrawals.receipts r") is False
    assert world.one("SELECT job_id IS NOT NULL AND applied_at IS NOT NULL FROM withdrawals.receipts")


def test_an_event_without_a_time_happened_when_it_came_in(db: Database, world: World, environment: Settings) -> None:
    """Also within one commit: the later one is the newer."""
    source = make_registered(db, environment, world.organisation_id)
    world.enrolment("anna")
    door = Inbox(db)
    given = [incoming("anna", kind, occurred_at=None) for kind in ("deactivated", "reactivated", "deactivated")]
    futures = [door.submit(source, one) for one in given]
    door.close()
    assert all(future.result(0).status == "accepted" for future in futures)  # type: ignore[union-attr]
    apply_inbox(db, environment)
    assert not world.active("anna")


DOOR_STATEMENTS, SET_STATEMENTS = 1, 26
"""At the most, besides BEGIN and COMMIT: of one event at the door, and of a set of any size."""


def test_an_event_costs_one_statement_at_the_door(db: Database, world: World, environment: Settings) -> None:
    source = make_registered(db, environment, world.organisation_id)
    with counting_statements(db) as seen:
        post(db, source, incoming("anna"))
    assert len(seen) <= DOOR_STATEMENTS, seen


@pytest.mark.parametrize("size", [10, 1000])
def test_a_set_costs_a_few_statements_whatever_its_size(
    db: Database, world: World, environment: Settings, size: int
) -> None:
    """Persons who were deactivated before, come back and are deactivated again: every kind of statement runs."""
    source = make_registered(db, environment, world.organisation_id)
    brake.set_limits(
        db, organisation_id=world.organisation_id, wanted=BrakeSetting(floor=size // 2, share=0.1, hours=24),
        actor="test:approver",
    )  # fmt: skip
    persons = [f"person-{number}" for number in range(size)]
    world.run("INSERT INTO lms.learners (organisation_id, external_id) SELECT :o, unnest(CAST(:p AS text[]))",
              o=world.organisation_id, p=persons)  # fmt: skip
    for minute in (1, 2):
        give = Inbox(db)
        for place, person in enumerate(persons):
            kind = "reactivated" if minute == 2 and place % 4 == 0 else "deactivated"
            give.submit(source, incoming(person, kind, minute))
        give.close()
        with counting_statements(db) as seen:
            apply_inbox(db, environment)
        looks_in_vain = 2  # the last step finds nothing
        assert len(seen) - looks_in_vain <= SET_STATEMENTS, seen
    assert waiting(world) == []
    assert_balanced(db)


def test_the_same_event_twice_in_one_commit_is_one_receipt(db: Database, world: World, environment: Settings) -> None:
    source = make_registered(db, environment, world.organisation_id)
    one, other = incoming("anna", key="msg_1"), incoming("ben", key="msg_1")
    door = Inbox(db)
    first, again, reused = (door.submit(source, given) for given in (one, one, other))
    door.close()
    stored, repeated = first.result(0), again.result(0)
    assert isinstance(stored, events.EventReceipt)
    assert isinstance(repeated, events.EventReceipt)
    assert (stored.id, stored.repeated, repeated.repeated) == (repeated.id, False, True)
    assert isinstance(reused.exception(0), IdempotencyConflictError)
    assert waiting(world) == ["anna"]
