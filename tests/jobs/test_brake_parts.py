"""The brake for one source and for one Series: limits of the policies within the organisation's window."""

from io import BytesIO
from typing import Any

import pytest

from schemas.jobs import FileRequest, JobRequest
from tests.approvals.office import Office
from tests.jobs.undoing import Undo
from tests.support import rosters
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control, plan
from worker.jobs.files.submit import submit_file
from worker.jobs.singles import accept_in_steps
from worker.jobs.submit import single, submit
from worker.records import Job, Submitted


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
    assert (
        "A policy allows 150 learners of the source Bulk in 24 hours; its learners (1) and those before (150) are more"
        in (found.brake_why)
    )
    assert "An owner can change the policies" in found.brake_forecast.way_on
    held = [ask(office, enrolment_ids=next_), ask(office, enrolment_ids=world.enrolments(101))]
    assert [job.state for job in held] == ["held", "held"]
    assert held[0].held_why is not None
    assert "the source Bulk" in held[0].held_why
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


def test_a_series_past_its_limit_is_held_whatever_a_job_was_asked_for_by(office: Office, undo: Undo) -> None:
    """A filter, lists, small jobs that share a transaction, a file, persons by hand and by HR, and a roster; also jobs
    over several Series. The plan says it before."""
    world, db = office.world, office.db
    office.rules(withdraw_series=4)
    fire, other = (
        world.one("INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :c, :c) RETURNING id",
                  o=world.organisation_id, c=code) for code in ("FIRE", "OTHER")
    )  # fmt: skip
    people = [f"p{n}" for n in range(40)]
    ids = {one: enrol(world, one, fire) for one in people}
    both = [enrol(world, "p0", other), ids["p0"]]

    def of(*numbers: int) -> list[int]:
        return [ids[f"p{n}"] for n in numbers]

    first = ask(office, enrolment_ids=both)
    assert first.state == "queued", "one of each Series"
    found = planned(office, filter={"series_id": fire})
    assert (found.brake, found.brake_forecast.used, found.brake_forecast.limit) == (True, 1, 4)
    assert "A policy allows 4 learners of Series FIRE in 24 hours; its learners (40) and those before (1) are more" in (
        found.brake_why
    )
    assert "An owner can change the policies" in found.brake_forecast.way_on
    held = [ask(office, filter={"series_id": fire}), world.submit(db, of(1, 2, 3, 4), chunk_size=3)]
    assert [job.state for job in held] == ["held", "held"], "by filter, and a list of several chunks"
    assert "of Series FIRE" in (held[1].held_why or "")

    world.event(db, "deactivated", "p5")
    with db.begin() as connection:  # in one transaction
        small = [single(world.requester(), JobRequest(reason="not_required", enrolment_ids=[n])) for n in of(6, 7, 8)]
        answers = accept_in_steps(connection, [one for one in small if one])
    assert [one.job.state for one in answers if isinstance(one, Submitted)] == ["queued", "queued", "held"]
    csv = BytesIO(f"enrolment_id\n{of(9)[0]}\n".encode())
    request = FileRequest(reason="not_required")
    assert submit_file(db, world.requester(), request, csv).submitted.job.state == "held"
    assert ask(office, learner_external_id="p10").state == "held"
    world.event(db, "deactivated", "p11")
    assert world.one("SELECT state FROM withdrawals.jobs WHERE source = 'hr' ORDER BY id DESC LIMIT 1") == "held"
    roster = rosters.csv(**{one: "left" if one == "p12" else "active" for one in people})
    done = rosters.accept(db, world, rosters.plan(db, world, roster, rosters.NOW))
    assert world.one("SELECT state FROM withdrawals.jobs WHERE id = :id", id=done.job_id) == "held"
    assert ask(office, enrolment_ids=[enrol(world, "p1", other)]).state == "queued", "another Series goes on"

    # What is released counts, and an undo gives back; a job counts from its end on what it withdrew.
    decide_due(db, office.settings)
    undo.back(first.id)
    assert planned(office, enrolment_ids=of(13)).brake is False
    control.release(db, **office.organisation, job_id=done.job_id or 0, actor="test:approver")
    assert planned(office, enrolment_ids=of(13)).brake
    control.cancel(db, **office.organisation, job_id=done.job_id or 0, actor="test:admin")
    assert planned(office, enrolment_ids=of(13)).brake is False
    assert_balanced(db)


def enrol(world: World, learner: str, series: int) -> int:
    """An enrolment since two days, which no roster of today is older than."""
    made = world.enrolment(learner)
    world.run("UPDATE lms.enrolments SET series_id = :s, enrolled_at = now() - interval '2 days' WHERE id = :id",
              s=series, id=made)  # fmt: skip
    return made
