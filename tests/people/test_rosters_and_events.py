"""Any mix of events and rosters, in any order, ends as the newest truth says."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.events import PersonEvent
from tests.support.load import FULL
from tests.support.rosters import NOW, accept, csv, enrol, plan
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.submit import Requester
from worker.people import events
from worker.people.rosters import RosterRefusedError

PEOPLE = ("anna", "ben", "cleo")
STAYING = ("dan", "eva", "fay", "gus")
"""In every roster: without them it would count as truncated."""
YEARS = NOW + timedelta(days=3650)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Event:
    """What a source says about one person at one time."""

    source: str
    person: str
    kind: str
    later: bool


@dataclass(frozen=True)
class Whole:
    """What a roster says about everybody; who is not named is missing."""

    states: tuple[str, str, str]


said = st.one_of(
    st.builds(
        Event, st.sampled_from(["one", "two"]), st.sampled_from(PEOPLE),
        st.sampled_from(["deactivated", "deactivated", "reactivated"]), st.booleans(),
    ),
    st.builds(Whole, st.tuples(*[st.sampled_from(["active", "left", "missing"])] * 3)),
)  # fmt: skip


ANNOUNCED, LATE = Event("one", "anna", "deactivated", True), Event("two", "anna", "deactivated", False)
EVERYBODY = Whole(("active", "active", "active"))


@example([(0, ANNOUNCED), (2, EVERYBODY), (1, LATE)])  # the roster refutes what comes late, and not the leave
@example([(0, ANNOUNCED), (1, LATE), (2, EVERYBODY)])
@settings(max_examples=300 if FULL else 5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(said, min_size=2, max_size=7).flatmap(lambda story: st.permutations(list(enumerate(story)))))
def test_events_and_rosters_in_any_order_end_as_the_newest_truth_says(
    db: Database, world: World, environment: Settings, arrivals: list[tuple[int, Event | Whole]]
) -> None:
    """The place in the story is the time of what is said. A roster that comes after a newer one is refused."""
    org = world.organisation(f"Story {next(_numbers)}")
    ids = enrol(world, *PEOPLE, *STAYING, organisation_id=org)
    known: list[tuple[int, Event | Whole]] = []
    for minute, one in arrivals:
        at = _time(minute)
        if isinstance(one, Event):
            _send(db, org, one, at)
            known.append((minute, one))
            continue
        states = dict(zip(PEOPLE, one.states, strict=True)) | dict.fromkeys(STAYING, "active")
        content = csv(**{person: state for person, state in states.items() if state != "missing"})
        try:
            accept(db, world, plan(db, world, content, at, org, allow_shrink="A test."), org)
            known.append((minute, one))
        except RosterRefusedError:
            assert any(isinstance(other, Whole) and later > minute for later, other in known)
    decide_due(db, environment)
    for person in (*PEOPLE, *STAYING):
        active = _truth(person, known)
        learner = world.run(
            "SELECT active FROM lms.learners WHERE organisation_id = :o AND external_id = :p", o=org, p=person
        )
        assert (learner[0].active, world.status(ids[person]) != "withdrawn") == (active, active), (person, known)
    assert_balanced(db)


def _time(minute: int) -> datetime:
    return NOW - timedelta(hours=20) + timedelta(minutes=minute)


def _send(db: Database, org: int, one: Event, at: datetime) -> None:
    later = YEARS if one.later and one.kind == "deactivated" else None
    event = PersonEvent(type=f"user.{one.kind}", external_id=one.person, occurred_at=at, effective_at=later)
    events.record(db, Requester(org, f"hr:{one.source}", f"hr:{one.source}", uuid4().hex), one.source, event)


def _truth(person: str, known: list[tuple[int, Event | Whole]]) -> bool:
    """Whether the person is active now, by the newest of each source, and by the newest of these."""
    newest: dict[str, tuple[int, str, bool]] = {}
    for minute, one in sorted(known, key=lambda entry: entry[0]):
        if isinstance(one, Event):
            if one.person == person:
                newest[one.source] = (minute, one.kind, one.later and one.kind == "deactivated")
        elif person in PEOPLE:
            state = one.states[PEOPLE.index(person)]
            newest["roster"] = (minute, "reactivated" if state == "active" else "deactivated", False)
    _, kind, is_announced = max(newest.values(), default=(0, "reactivated", False))
    return kind == "reactivated" or is_announced
