"""Events of a person in any order, any of them twice or more, from two sources: the end is always the same.

DESIGN.md §2: "`persons` … holds the newest event of each source (by sequence, nulls first, then timestamp,
reactivation last) … The person's state is the newest of these by timestamp, a reactivation winning ties."
"""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.load import MORE
from tests.support.racing import Threads, workers
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Event:
    source: str
    kind: str
    minute: int
    sequence: int | None
    later: bool = False  # deactivates in the far future

    def send(self, db: Database, world: World, person: str) -> None:
        world.event(
            db,
            self.kind,
            person,
            source=self.source,
            occurred_at=START + timedelta(minutes=self.minute),
            sequence=self.sequence,
            effective_at=FUTURE if self.later and self.kind == "deactivated" else None,
        )


def newest(events: list[Event]) -> Event:
    """The event that decides, by the design's words alone."""
    of_source: dict[str, Event] = {}
    for event in events:
        best = of_source.get(event.source)
        if best is None or _within(event) > _within(best):
            of_source[event.source] = event
    return min(of_source.values(), key=lambda event: (-event.minute, event.kind == "deactivated", event.source))


def _within(event: Event) -> tuple[bool, int, int, bool]:
    return (event.sequence is not None, event.sequence or 0, event.minute, event.kind != "deactivated")


def differ(events: list[Event]) -> bool:
    """Of equal rank there is one: two facts that a source gives the same number and time have no order."""
    return len({(event.source, _within(event)) for event in events}) == len(events)


events_of_a_person = st.lists(
    st.builds(
        Event,
        source=st.sampled_from(["hr", "scim"]),
        kind=st.sampled_from(["deactivated", "reactivated", "deactivation_cancelled"]),
        minute=st.integers(0, 4),
        sequence=st.none() | st.integers(1, 3),
        later=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).filter(differ)


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Some events, and one order in which they arrive, each once or more."""
    events = draw(events_of_a_person)
    again = draw(st.lists(st.sampled_from(events), max_size=3))
    return events, draw(st.permutations(events + again))


def test_any_order_and_any_repetition_of_events_ends_the_same(
    db: Database, world: World, environment: Settings
) -> None:
    """Nothing is applied before the last event; then the newest one decides, whatever came in between."""

    @settings(max_examples=MORE * 13, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(orders())
    def hold(given_events: tuple[list[Event], list[Event]]) -> None:
        events, arrivals = given_events
        person = f"person-{next(_numbers)}"
        enrolment_id = world.enrolment(person)
        for event in arrivals:
            event.send(db, world, person)
        decisive = newest(events)
        away = decisive.kind == "deactivated" and not decisive.later
        assert world.active(person) is not away
        decide_due(db, environment)
        assert world.active(person) is not away
        assert world.status(enrolment_id) == ("withdrawn" if away else "in_progress")

    hold()
    assert_balanced(db)


@pytest.mark.parametrize(("leaves", "returns"), [("hr", "scim"), ("scim", "hr")])
@pytest.mark.parametrize("first", ["deactivated", "reactivated"])
def test_of_two_sources_with_the_same_time_the_reactivation_wins(
    db: Database, world: World, environment: Settings, leaves: str, returns: str, first: str
) -> None:
    """Whichever comes first, and whichever source says it; "a reactivation winning ties"."""
    enrolment_id = world.enrolment("anna")
    events = [Event(leaves, "deactivated", 3, None), Event(returns, "reactivated", 3, 9)]
    for event in sorted(events, key=lambda event: event.kind != first):
        event.send(db, world, "anna")
    decide_due(db, environment)
    assert world.active("anna")
    assert world.status(enrolment_id) == "in_progress"
    assert_balanced(db)


def test_events_that_arrive_at_once_end_the_same(
    db: Database, world: World, environment: Settings, threads: Threads
) -> None:
    """Two sources send at the same moment, while workers apply what there is: the newest decides who is active."""

    @settings(max_examples=MORE * 4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(events_of_a_person)
    def hold(events: list[Event]) -> None:
        person = f"person-{next(_numbers)}"
        enrolment_id = world.enrolment(person)
        with workers(db, environment, 2):
            results = threads.together(*[lambda event=event: event.send(db, world, person) for event in events])
            assert not [error for error in results if isinstance(error, Exception)]
            eventually(
                lambda: world.one("SELECT count(*) FROM withdrawals.jobs WHERE state = 'queued'") == 0,
                what="every job ended",
            )
        decisive = newest(events)
        away = decisive.kind == "deactivated" and not decisive.later
        assert world.active(person) is not away
        if away:
            assert world.status(enrolment_id) == "withdrawn"
        elif all(event.kind != "deactivated" for event in events):
            assert world.status(enrolment_id) == "in_progress"

    hold()
    assert_balanced(db)
