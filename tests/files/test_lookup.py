"""Enrolments by learner and Series: which one a row means, and when it is refused because it could mean two."""

import io
from typing import Any
from uuid import uuid4

import pytest

from schemas.jobs import FileRequest
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs.files.faults import FileFaultsError
from worker.jobs.files.submit import FilePlan, plan_file, submit_file

REQUEST = FileRequest(reason="not_required")


def plan(db: Database, world: World, content: str) -> FilePlan:
    return plan_file(db, world.organisation_id, REQUEST, io.BytesIO(content.encode()))


def submit(db: Database, world: World, content: str, **how: Any) -> int:
    return submit_file(db, world.requester(), REQUEST, io.BytesIO(content.encode()), **how).submitted.job.id


def series(world: World, enrolment_id: int, code: str) -> None:
    """Give the Series of an enrolment another code."""
    world.run("UPDATE lms.series SET code = :c WHERE id = (SELECT series_id FROM lms.enrolments WHERE id = :e)",
              c=code, e=enrolment_id)  # fmt: skip


def enrol(world: World, learner: str, like: int, *, pathway: str | None = None, status: str = "in_progress") -> int:
    """Another enrolment in the Series of this one."""
    return int(world.one(
        """INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
        SELECT organisation_id, :l, series_id, :p, :s FROM lms.enrolments WHERE id = :e RETURNING id""",
        l=world.learner(learner), e=like, s=status, p=world.pathway(pathway) if pathway else None,
    ))  # fmt: skip


@pytest.fixture
def anna(world: World) -> int:
    """The enrolment of anna (anna@example.org) in FIRE."""
    made = world.enrolment("anna")
    series(world, made, "FIRE")
    world.run("UPDATE lms.learners SET email = 'Anna@Example.org' WHERE external_id = 'anna'")
    return made


@pytest.mark.parametrize(
    "row",
    [
        "learner_external_id;series_code\nanna;FIRE",
        "Employee ID;Course code\nanna; FIRE ",
        "E-mail;Series\nanna@example.ORG;FIRE",
        "user;series\nanna;FIRE",
        "user;series\nanna@example.org;FIRE",
        "user id;mail;series\nanna;anna@example.org;FIRE",
        "user id;series;pathway\nanna;FIRE;",
        "enrolment_id;user id;series\n;anna;FIRE",
    ],
)
def test_a_learner_and_a_series_name_an_enrolment(
    row: str, db: Database, environment: Settings, world: World, anna: int
) -> None:
    submit(db, world, row)
    decide_due(db, environment)
    assert world.status(anna) == "withdrawn"


def test_the_pathway_says_which_of_several_enrolments_is_meant(db: Database, world: World, anna: int) -> None:
    owned = enrol(world, "anna", anna, pathway="Onboarding")
    ambiguous = plan(db, world, "user id,series\nanna,FIRE\n").check
    assert [(fault.line, fault.column) for fault in ambiguous.faults] == [(2, "pathway")]
    blank = plan(db, world, "user id,series,pathway\nanna,FIRE,\n").check
    assert blank.fault_count == 1, "which one is never guessed"
    job = submit(db, world, "user id,series,pathway\nanna,FIRE,Onboarding\n")
    assert world.one("SELECT enrolment_ids FROM withdrawals.chunks WHERE job_id = :j", j=job) == [owned]


def test_an_active_enrolment_is_meant_before_those_that_ended(
    db: Database, environment: Settings, world: World, anna: int
) -> None:
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = :e", e=anna)
    again = enrol(world, "anna", anna)
    job = submit(db, world, "user id,series\nanna,FIRE\n")
    decide_due(db, environment)
    assert world.outcomes(job) == {again: "withdrawn"}


def test_without_an_active_one_the_newest_says_what_it_is(
    db: Database, environment: Settings, world: World, anna: int
) -> None:
    world.run("UPDATE lms.enrolments SET status = 'withdrawn' WHERE id = :e", e=anna)
    newest = enrol(world, "anna", anna, status="mastered")
    job = submit(db, world, "user id,series\nanna,FIRE\n")
    decide_due(db, environment)
    assert world.outcomes(job) == {newest: "enrolment_ended"}


def test_every_fault_of_looking_up_is_named_by_line(db: Database, world: World, anna: int) -> None:
    world.run("DROP INDEX lms.learners_email")  # a platform need not have it
    world.enrolment("ben"), world.learner("carl"), world.pathway("Onboarding")
    world.run("UPDATE lms.learners SET email = 'two@example.org' WHERE external_id IN ('ben', 'carl')")
    for code in ("Smoke", "SMOKE"):
        series_of = "INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, :code, 'Smoke and its dangers')"
        world.run(series_of, o=world.organisation_id, code=code)
    rows = [
        "nobody,,FIRE,", "two,,FIRE,", ",two@example.org,FIRE,", "anna,two@example.org,FIRE,", "anna,,WATER,",
        "anna,,FIRE,Nowhere", "anna,,FIRE,Onboarding", "ben,,FIRE,", "anna,,smoke,", ",,FIRE,",
        "anna,anna@example.org,FIRE,", "anna,,fire,",
    ]  # fmt: skip
    found = plan(db, world, "\n".join(["external id,email,series,pathway", *rows]))
    assert [(fault.line, fault.column) for fault in found.check.faults] == [
        (2, "learner"), (3, "learner"), (4, "learner"), (5, "learner"), (6, "series_code"),
        (7, "pathway"), (8, "pathway"), (9, "series_code"), (10, "series_code"), (11, "learner"),
    ]  # fmt: skip
    assert found.check.fault_count == 10
    assert found.plan is not None
    assert found.plan.outcomes == {"withdrawn": 1}
    assert found.plan.duplicates == 1, "a code in other capital letters is found, where one Series alone has it so"
    assert "Did you mean S" in found.check.faults[8].message
    assert found.check.faults[8].suggestion in ("Smoke", "SMOKE")
    assert not [fault for fault in found.check.faults if fault.suggestion and fault.line != 10]
    said = " ".join(fault.message for fault in found.check.faults)
    assert "several learners" in found.check.faults[2].message
    assert "different learners" in found.check.faults[3].message
    assert "example.org" not in said
    assert "nobody" not in said


def test_one_learner_of_another_organisation_is_not_found(db: Database, world: World) -> None:
    other = world.organisation("Other")
    theirs = world.enrolment("anna", organisation_id=other)
    series(world, theirs, "FIRE")
    world.learner("ben")
    with pytest.raises(FileFaultsError) as refused:
        submit(db, world, "user id,series\nanna,FIRE\nben,FIRE\n")
    assert [(fault.line, fault.column) for fault in refused.value.faults.first] == [(2, "learner"), (3, "series_code")]
    assert world.status(theirs) == "in_progress"


def test_faults_of_reading_and_of_looking_up_are_found_at_once(db: Database, world: World, anna: int) -> None:
    with pytest.raises(FileFaultsError) as refused:
        submit(db, world, "enrolment_id,user id,series\nx,,\n,anna,FIRE\n,nobody,FIRE\n,anna,\n1,a\n")
    assert [fault.line for fault in refused.value.faults.first] == [2, 4, 5, 6]
    assert str(refused.value).startswith("Line 2: enrolment_id: 'x'")
    assert str(refused.value).endswith("3 more lines have a fault.")
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0


def test_two_rows_that_mean_one_enrolment_count_once(db: Database, world: World, anna: int) -> None:
    content = f"enrolment_id,user id,email,series\n{anna},,,\n,anna,,FIRE\n,,anna@example.org,FIRE\n"
    made = submit_file(db, world.requester(), REQUEST, io.BytesIO(content.encode())).submitted.job
    assert (made.accepted, made.duplicates) == (1, 2)


def test_the_same_key_and_rows_are_the_same_job_whatever_they_would_mean_now(
    db: Database, environment: Settings, world: World, anna: int
) -> None:
    """Between the two the learner was withdrawn and enrolled again: the repeat must not take the new enrolment."""
    who, content = world.requester("k", door="api"), b"user id,series\nanna,FIRE\n"
    first = submit_file(db, who, REQUEST, io.BytesIO(content)).submitted
    decide_due(db, environment)
    again = enrol(world, "anna", anna)
    repeated = submit_file(db, who, REQUEST, io.BytesIO(content)).submitted
    assert (repeated.created, repeated.job.id) == (False, first.job.id)
    decide_due(db, environment)
    assert world.status(again) == "in_progress"
    series(world, again, "OTHER")
    check = submit_file(db, who, REQUEST, io.BytesIO(content)).check
    assert (check.good, check.fault_count) == (1, 0), "its row was taken"


def test_a_plan_of_rows_is_kept_by_its_hash(db: Database, world: World, anna: int) -> None:
    content = "user id,series\nanna,FIRE\n"
    planned = plan(db, world, content).plan
    assert planned is not None
    request = REQUEST.model_copy(update={"plan_hash": planned.plan_hash})
    made = submit_file(db, world.requester(uuid4().hex), request, io.BytesIO(content.encode()))
    assert made.submitted.created
