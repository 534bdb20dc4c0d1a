"""The brake for one source and for one Series: limits of the policies within the organisation's window."""

from typing import Any

import pytest

from schemas.jobs import JobRequest
from tests.approvals.office import Office
from tests.jobs.undoing import Undo
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control, plan
from worker.jobs.submit import submit
from worker.records import Job


@pytest.fixture
def office(db: Database, world: World, environment: Settings) -> Office:
    return Office(db, world, environment)


def ask(office: Office, **request: Any) -> Job:
    made = JobRequest(reason="not_required", **request)
    return submit(office.db, office.world.requester(), made).job


def planned(office: Office, **request: Any) -> Any:
    made = JobRequest(reason="not_required", **request)
    return plan.of_request(office.db, office.world.organisation_id, made)


def test_a_source_past_its_limit_is_held_and_other_sources_go_on(office: Office, undo: Undo) -> None:
    """Lists, small jobs that share a transaction, and deactivations; the plan says it before."""
    world = office.world
    office.rules(withdraw__bulk=150, withdraw__hr=1)
    list_ = world.enrolments(120)
    first = ask(office, enrolment_ids=list_)
    small = ask(office, enrolment_ids=world.enrolments(30))
    assert (first.state, small.state) == ("queued", "queued")
    next_ = world.enrolments(1)
    found = planned(office, enrolment_ids=next_)
    assert (found.brake, found.brake_forecast.used, found.brake_forecast.limit) == (True, 150, 150)
    assert "(1) and those of source bulk in the last 24 hours (150) are more than 150" in found.brake_why
    assert "An owner can change the policies" in found.brake_forecast.way_on
    held = [ask(office, enrolment_ids=next_), ask(office, enrolment_ids=world.enrolments(101))]
    assert [job.state for job in held] == ["held", "held"]
    assert held[0].held_why is not None
    assert "source bulk" in held[0].held_why
    assert ask(office, enrolment_ids=world.enrolments(2), source="admin").state == "queued"

    for person in ("anna", "ben"):
        world.enrolment(person)
        world.event(office.db, "deactivated", person)
    hr = world.run("SELECT state FROM withdrawals.jobs WHERE source = 'hr' ORDER BY id")
    assert [row.state for row in hr] == ["queued", "held"]

    control.release(office.db, **office.organisation, job_id=held[0].id, actor="test:approver")
    decide_due(office.db, office.settings)
    undo.back(first.id)
    assert planned(office, enrolment_ids=world.enrolments(60)).brake is False, "an undo gives its learners back"
    assert_balanced(office.db)


def test_a_series_past_its_limit_is_held_and_other_series_go_on(office: Office) -> None:
    """Of jobs that are asked for one Series; in the window, whatever their source."""
    world = office.world
    office.rules(withdraw_series=4)
    ids = world.enrolments(5)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=ids[0])
    world.run("UPDATE lms.enrolments SET status = 'no_attempts' WHERE id = ANY(:ids)", ids=ids[:3])
    some, all_ = {"series_id": series, "status": ["no_attempts"]}, {"series_id": series}
    assert planned(office, filter=all_).brake
    assert ask(office, filter=some).state == "queued"
    found = planned(office, filter={**all_, "status": ["in_progress"]})
    assert "(2) and those of the Series in the last 24 hours (3) are more than 4" in found.brake_why
    assert ask(office, filter={**all_, "status": ["in_progress"]}, source="admin").state == "held"
    other = world.enrolments(4)
    of_other = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=other[0])
    assert ask(office, filter={"series_id": of_other}).state == "queued"
    assert_balanced(office.db)
