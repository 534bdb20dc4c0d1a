"""A person's events from several HR systems, in any order, repeated: the result is always the same.

Like `races/test_race_event_order.py`, but with ids under which an event is repeated, with policies that withdraw, hold
or ignore, and with persons whom the platform knows only after the last event.
"""

import itertools
import json
from dataclasses import asdict
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import PersonEvent
from tests.races.test_race_event_order import FUTURE, START, Event, differ, newest
from tests.support.load import MORE
from tests.support.racing import due_now
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import remedies
from worker.ledger.hr_sources import RegisteredSource
from worker.people import events, hr_sources, inbox
from worker.people.events import EventReceipt
from worker.people.inbox import IncomingEvent, RejectedEvent

POLICIES = ("withdraw", "hold", "ignore")
_numbers = itertools.count(1)

events_of_a_person = st.lists(
    st.builds(
        Event,
        source=st.sampled_from(POLICIES),
        kind=st.sampled_from(["deactivated", "reactivated", "deactivation_cancelled"]),
        minute=st.integers(0, 4),
        sequence=st.none() | st.integers(1, 3),
        later=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).filter(differ)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[Event, bool]]:
    """Events in an order of arrival, each once or more, and whether each has a new id."""
    events = draw(events_of_a_person)
    again = draw(st.lists(st.sampled_from(events), max_size=3))
    order = draw(st.permutations(events + again))
    return [(event, draw(st.booleans())) for event in order]


def deliver(db: Database, source: RegisteredSource, person: str, event: Event, *, anew: bool) -> EventReceipt:
    said = json.dumps([person, asdict(event)])
    made = PersonEvent.model_validate(
        {
            "type": f"user.{event.kind}",
            "external_id": person,
            "occurred_at": START + timedelta(minutes=event.minute),
            "sequence": event.sequence,
            "effective_at": FUTURE if event.later and event.kind == "deactivated" else None,
        }
    )
    key = f"{next(_numbers)}" if anew else said
    receipt = inbox.receive(db, source, IncomingEvent(key, said.encode(), event=made))
    assert not isinstance(receipt, RejectedEvent)
    return receipt


def test_any_order_and_any_repetition_of_webhooks_ends_the_same(
    db: Database, world: World, environment: Settings
) -> None:
    """Jobs are applied only after the last event; then the newest event and its source's policy decide."""
    by_policy = {
        policy: hr_sources.create(
            db, environment, organisation_id=world.organisation_id, name=policy, kind="standard", actor="test:approver",
            on_deactivate=policy,
        ).source
        for policy in POLICIES
    }  # fmt: skip

    @settings(max_examples=MORE * 13, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(deliveries(), st.booleans())
    def hold(arrivals: list[tuple[Event, bool]], known: bool) -> None:
        person = f"person-{next(_numbers)}"
        enrolment_id = world.enrolment(person) if known else None
        receipts: dict[Event, int | None] = {}
        for event, anew in arrivals:
            receipt = deliver(db, by_policy[event.source], person, event, anew=anew)
            if not anew:
                assert receipts.setdefault(event, receipt.id) == receipt.id
        if enrolment_id is None:
            decide_due(db, environment)
            enrolment_id = world.enrolment(person)
            remedies.redrive_known_learners(db)
            events.deactivate_due(db)
        decide_due(db, environment)
        due_now(world)  # what was handed back because another event of the person waited in the inbox
        decide_due(db, environment)
        decisive = newest([event for event, _ in arrivals])
        away = decisive.kind == "deactivated" and not decisive.later
        assert world.active(person) is not away
        withdrawn = away and decisive.source == "withdraw"
        assert world.status(enrolment_id) == ("withdrawn" if withdrawn else "in_progress")

    hold()
    assert_balanced(db)
