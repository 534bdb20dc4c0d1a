"""Plan, then apply: what would happen, counted by the rules that decide it; and refused when it would not any more.

"A job sent with it is compared inside `submit`'s transaction: another selection, or counts that have drifted
by more than a set share → 409 with both. A plan writes nothing and holds no lock."
"""

from typing import Any
from unittest import mock

import pytest

from schemas.jobs import FileRequest, JobRequest
from tests.world import World, assert_balanced, decide_due, id_file
from worker.config import Settings
from worker.database import Database
from worker.errors import InvalidInputError, PlanDriftedError, PlanExpiredError, PlanMismatchError
from worker.jobs import plan
from worker.jobs.files.submit import plan_file, submit_file
from worker.jobs.show import show
from worker.jobs.submit import submit


def of(**selection: Any) -> JobRequest:
    return JobRequest(reason=selection.pop("reason", "not_required"), **selection)


@pytest.fixture
def mixed(world: World) -> list[int]:
    """One enrolment of each outcome."""
    pathway = world.pathway("Onboarding")
    return [
        world.enrolment("anna"),
        world.enrolment("anna", "no_attempts"),
        world.enrolment("ben", "mastered"),
        world.enrolment("cora", "withdrawn"),
        world.enrolment("dan", "on_hold"),
        world.enrolment("eve", pathway_id=pathway),
        999_999,
    ]


OUTCOMES = {
    "withdrawn": 2, "enrolment_ended": 1, "already_withdrawn": 1, "unknown_status": 1, "pathway_owned": 1,
    "not_found": 1,
}  # fmt: skip


@pytest.mark.parametrize("how", ["ids", "file", "filter"])
def test_a_plan_is_what_the_job_then_does(
    db: Database, world: World, environment: Settings, mixed: list[int], how: str
) -> None:
    given, org, file = [*mixed, mixed[0]], world.organisation_id, FileRequest(reason="not_required")
    statuses = ["in_progress", "no_attempts", "mastered", "withdrawn", "on_hold"]
    asked = of(filter={"status": statuses}) if how == "filter" else of(enrolment_ids=given)
    found = plan_file(db, org, file, id_file(given)).plan if how == "file" else plan.of_request(db, org, asked)
    assert found is not None
    want = {name: n for name, n in OUTCOMES.items() if how != "filter" or name != "not_found"}
    assert found.outcomes == want
    assert (found.accepted, found.duplicates) == (sum(want.values()), 0 if how == "filter" else 1)
    assert found.learners == 5
    assert [one.enrolment_id for one in found.samples["withdrawn"]] == mixed[:2]
    (owned,) = found.samples["pathway_owned"]
    assert (owned.enrolment_id, owned.pathway_title) == (mixed[5], "Onboarding")
    assert owned.series_title
    assert not found.brake
    for table in ("jobs", "chunks", "audit", "organisation_settings", "brake_volume"):
        assert world.one(f"SELECT count(*) FROM withdrawals.{table}") == 0, "a plan writes nothing"
    planned = {"plan_hash": found.plan_hash}
    if how == "file":
        job = submit_file(db, world.requester(), file.model_copy(update=planned), id_file(given)).submitted.job
    else:
        job = submit(db, world.requester(), asked.model_copy(update=planned)).job
    decide_due(db, environment)
    assert show(db, organisation_id=org, job_id=job.id).outcomes == found.outcomes
    assert_balanced(db)


def test_a_plan_of_a_person_has_what_apply_would_find(db: Database, world: World, mixed: list[int]) -> None:
    found = plan.of_request(db, world.organisation_id, of(learner_external_id="anna"))
    assert (found.outcomes, found.learners) == ({"withdrawn": 2}, 1)
    unknown = plan.of_request(db, world.organisation_id, of(learner_external_id="nobody"))
    assert (unknown.outcomes, unknown.accepted) == ({"failed": 1}, 1)
    job = submit(db, world.requester(), of(learner_external_id="anna", plan_hash=found.plan_hash)).job
    assert job.state == "queued"


def test_a_plan_made_of_a_list_is_good_for_the_same_ids_in_a_file(db: Database, world: World) -> None:
    ids = world.enrolments(4)
    found = plan.of_request(db, world.organisation_id, of(enrolment_ids=ids[::-1]))
    request = FileRequest(reason="not_required", plan_hash=found.plan_hash)
    assert submit_file(db, world.requester(), request, id_file(ids)).submitted.job.accepted == 4


def test_a_plan_of_something_else_is_refused_and_nothing_is_written(db: Database, world: World) -> None:
    ids, org = world.enrolments(4), world.organisation_id
    hashed = plan.of_request(db, org, of(enrolment_ids=ids)).plan_hash
    other = plan.of_request(db, world.organisation("Other"), of(enrolment_ids=ids)).plan_hash
    for request, refusal, why in (
        (of(enrolment_ids=ids[:3], plan_hash=hashed), PlanMismatchError, "selection"),
        (of(filter={"series_id": 1}, plan_hash=hashed), PlanMismatchError, "selection"),
        (of(enrolment_ids=ids, reason="learner_declined", plan_hash=hashed), PlanMismatchError, "reason"),
        (of(enrolment_ids=ids, plan_hash=other), InvalidInputError, "plan_hash"),
        (of(enrolment_ids=ids, plan_hash=hashed[:-8] + "AAAAAAA="), InvalidInputError, "plan_hash"),
        (of(enrolment_ids=ids, plan_hash="é"), InvalidInputError, "plan_hash"),
    ):
        with pytest.raises(refusal, match=why):
            submit(db, world.requester(), request)
    with mock.patch("time.time", return_value=4_000_000_000.0), pytest.raises(PlanExpiredError):
        submit(db, world.requester(), of(enrolment_ids=ids, plan_hash=hashed))
    assert not world.run("SELECT 1 FROM withdrawals.jobs")


def test_outcomes_may_drift_by_a_set_share_and_no_more(db: Database, world: World, environment: Settings) -> None:
    ids = world.enrolments(40)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=ids[0])
    asked = of(filter={"series_id": series})
    hashed = plan.of_request(db, world.organisation_id, asked).plan_hash
    assert int(environment.plan_drift * 40) == 2
    world.run("UPDATE lms.enrolments SET status = 'mastered' WHERE id = ANY(:ids)", ids=ids[:3])
    with pytest.raises(PlanDriftedError) as refused:
        submit(db, world.requester(), asked.model_copy(update={"plan_hash": hashed}))
    assert refused.value.more == {"planned": {"withdrawn": 40}, "now": {"withdrawn": 37}}
    assert not world.run("SELECT 1 FROM withdrawals.jobs")
    world.run("UPDATE lms.enrolments SET status = 'in_progress' WHERE id = :id", id=ids[0])
    assert submit(db, world.requester(), asked.model_copy(update={"plan_hash": hashed})).job.accepted == 38


def test_a_known_key_answers_before_its_plan_is_looked_at(db: Database, world: World) -> None:
    ids = world.enrolments(2)
    made = submit(db, world.requester("one"), of(enrolment_ids=ids))
    again = submit(db, world.requester("one"), of(enrolment_ids=ids, plan_hash="stale"))
    assert (again.created, again.job.id) == (False, made.job.id)


def test_a_plan_holds_no_lock(db: Database, owner: Database, world: World, mixed: list[int]) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE withdrawals.jobs, withdrawals.chunks IN SHARE ROW EXCLUSIVE MODE")
        connection.exec_driver_sql("SELECT 1 FROM lms.enrolments FOR UPDATE")
        connection.exec_driver_sql("SELECT 1 FROM lms.learners FOR UPDATE")
        assert plan.of_request(db, world.organisation_id, of(enrolment_ids=mixed)).outcomes == OUTCOMES
