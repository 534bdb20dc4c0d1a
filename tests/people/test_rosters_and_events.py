"""Any mix of events, rosters and files, in any order, ends as the newest truth says."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from uuid import uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.events import PersonEvent
from schemas.jobs import FileRequest
from tests.support.load import FULL
from tests.support.rosters import NOW, accept, csv, enrol, plan
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control
from worker.jobs.files.submit import submit_file
from worker.jobs.submit import Requester
from worker.people import events, hr_sources
from worker.people.rosters import RosterRefusedError
from worker.queue.broker import make_broker
from worker.queue.relay import Relay

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


@dataclass(frozen=True)
class Listed:
    """A file by which an administrator withdraws these people from their Series, whatever anybody else says of them."""

    people: tuple[str, ...]


said = st.one_of(
    st.builds(
        Event, st.sampled_from(["one", "two"]), st.sampled_from(PEOPLE),
        st.sampled_from(["deactivated", "deactivated", "reactivated"]), st.booleans(),
    ),
    st.builds(Whole, st.tuples(*[st.sampled_from(["active", "left", "missing"])] * 3)),
    st.builds(Listed, st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=2, unique=True).map(tuple)),
)  # fmt: skip


ANNOUNCED, LATE = Event("one", "anna", "deactivated", True), Event("two", "anna", "deactivated", False)
EVERYBODY, ANNA = Whole(("active", "active", "active")), Listed(("anna",))


@example([(0, ANNOUNCED), (2, EVERYBODY), (1, LATE)])  # the roster refutes what comes late, and not the leave
@example([(0, ANNOUNCED), (1, LATE), (2, EVERYBODY)])
@example([(1, EVERYBODY), (2, ANNA), (0, LATE)])
@settings(max_examples=300 if FULL else 5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(said, min_size=2, max_size=7).flatmap(lambda story: st.permutations(list(enumerate(story)))))
def test_events_rosters_and_files_in_any_order_end_as_the_newest_truth_says(
    db: Database, world: World, environment: Settings, arrivals: list[tuple[int, Event | Whole | Listed]]
) -> None:
    """The place in the story is the time of what is said. A roster that comes after a newer one is refused. A file says
    nothing of who is there: it withdraws, and nobody becomes inactive by it."""
    org = world.organisation(f"Story {next(_numbers)}")
    ids = enrol(world, *PEOPLE, *STAYING, organisation_id=org)
    known: list[tuple[int, Event | Whole]] = []
    listed: set[str] = set()
    for minute, one in arrivals:
        at = _time(minute)
        if isinstance(one, Listed):
            _send_file(db, world, org, [ids[person] for person in one.people])
            listed.update(one.people)
            continue
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
        active, is_announced = _truth(person, known)
        learner = world.run(
            "SELECT active FROM lms.learners WHERE organisation_id = :o AND external_id = :p", o=org, p=person
        )
        holds = active and person not in listed
        assert (learner[0].active, world.status(ids[person]) != "withdrawn") == (active, holds), (person, known)
        waiting = world.run(
            "SELECT effective_at FROM withdrawals.jobs WHERE state = 'scheduled' AND organisation_id = :o"
            " AND learner_external_id = :p",
            o=org,
            p=person,
        )
        assert [row.effective_at for row in waiting] == [YEARS] * is_announced, (person, known)
    assert_balanced(db)


def _time(minute: int) -> datetime:
    return NOW - timedelta(hours=20) + timedelta(minutes=minute)


def _send(db: Database, org: int, one: Event, at: datetime) -> None:
    later = YEARS if one.later and one.kind == "deactivated" else None
    event = PersonEvent(type=f"user.{one.kind}", external_id=one.person, occurred_at=at, effective_at=later)
    events.record(db, Requester(org, f"hr:{one.source}", f"hr:{one.source}", uuid4().hex), one.source, event)


def _send_file(db: Database, world: World, org: int, ids: list[int]) -> None:
    """By learner and Series, as a spreadsheet has it."""
    rows = world.run(
        """SELECT l.external_id, s.code FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id
        JOIN lms.series s ON s.id = e.series_id WHERE e.id = ANY(:ids)""",
        ids=ids,
    )
    content = "\n".join(["Employee ID;Course code", *(f"{row.external_id};{row.code}" for row in rows)])
    requester = Requester(org, "test:admin", "cli", uuid4().hex)
    submit_file(db, requester, FileRequest(reason="not_required"), BytesIO(content.encode()))


def _truth(person: str, known: list[tuple[int, Event | Whole]]) -> tuple[bool, bool]:
    """Whether the person is active now, and leaves later, by the newest of each source, and by the newest of these."""
    newest: dict[str, tuple[int, str, bool]] = {}
    for minute, one in sorted(known, key=lambda entry: entry[0]):
        if isinstance(one, Event):
            if one.person == person:
                newest[one.source] = (minute, one.kind, one.later and one.kind == "deactivated")
        elif person in PEOPLE:
            state = one.states[PEOPLE.index(person)]
            newest["roster"] = (minute, "reactivated" if state == "active" else "deactivated", False)
    _, kind, is_announced = max(newest.values(), default=(0, "reactivated", False))
    if newest and max(newest, key=lambda source: newest[source]) == "roster" and kind == "reactivated":
        others = [one for source, one in newest.items() if source != "roster" and (one[1] == "reactivated" or one[2])]
        is_announced = max(others, default=(0, kind, False))[2]
    return kind == "reactivated" or is_announced, is_announced


def test_a_refuted_leave_gives_an_announced_one_its_job_back(db: Database, world: World, environment: Settings) -> None:
    """Four people whose leave a source has announced, and whom another source had deactivated at once by mistake."""
    people = ("anna", "ben", "cleo", "dora")
    ids = enrol(world, *people, *STAYING)
    org, friday = world.organisation_id, NOW + timedelta(days=3)
    for name, policy, grace in (("one", "withdraw", 48), ("held", "hold", 0), ("told", "ignore", 0)):
        hr_sources.create(
            db, environment, organisation_id=org, name=name, kind="standard", actor="test:owner", on_deactivate=policy,
            grace_hours=grace,
        )  # fmt: skip
    for person, source in zip(people, ("one", "held", "told", "one"), strict=True):
        world.event(db, "deactivated", person, source=source, occurred_at=_time(0), effective_at=friday)
    first = world.run("SELECT id, learner_external_id FROM withdrawals.jobs WHERE state = 'scheduled' ORDER BY id")
    control.cancel(db, organisation_id=org, job_id=first[-1].id, actor="test:operator")  # Dora may stay longer
    for person in people:
        world.event(db, "deactivated", person, source="two", occurred_at=_time(1))
    everybody = csv(**dict.fromkeys((*people, *STAYING), "active"))
    done = accept(db, world, plan(db, world, everybody, _time(2)))
    assert accept(db, world, plan(db, world, everybody, _time(3))).job_id is done.job_id is None

    again = world.run(
        """SELECT j.learner_external_id AS person, j.state, j.effective_at, r.status FROM withdrawals.jobs j
        JOIN withdrawals.receipts r ON r.job_id = j.id AND r.door = j.door AND r.idempotency_key = j.idempotency_key
        WHERE j.door = 'hr:roster' ORDER BY 1"""
    )
    assert [(one.person, one.state, one.status) for one in again] == [
        ("anna", "scheduled", "scheduled"), ("ben", "held", "held"),
    ]  # fmt: skip
    assert again[0].effective_at == friday + timedelta(hours=48)
    said = world.event(db, "deactivated", "anna", source="one", occurred_at=_time(4), effective_at=friday)
    assert said.status == "scheduled", "the job that was made anew answers the source that says it again"
    assert world.one("SELECT count(*) FROM withdrawals.jobs WHERE state IN ('scheduled', 'held')") == 2
    assert all(world.active(person) for person in people)

    world.run("UPDATE withdrawals.jobs SET effective_at = now() WHERE state = 'scheduled'")
    world.run("UPDATE withdrawals.persons SET effective_at = now() WHERE effective_at > now()")
    Relay(db, make_broker(environment.broker_url.get_secret_value()), environment).sweep()
    decide_due(db, environment)
    assert [person for person in people if world.status(ids[person]) == "withdrawn"] == ["anna"]
    assert_balanced(db)
