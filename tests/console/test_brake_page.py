"""The page of the brake: its window, limits that two people change; and what a held request looks like."""

import re

import pytest
from starlette.testclient import TestClient

from schemas.catalogue import Role
from schemas.control import BrakeSetting
from tests.support.console import MakeToken, Person, field_of, held_job
from tests.world import World, assert_balanced, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake, control

PAGE = "/console/brake"


def test_limits_are_proposed_and_approved_on_a_page(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    secrets = {
        name: token(role, name=name) for name, role in (("ada", "owner"), ("bea", "approver"), ("vic", "viewer"))
    }
    held = held_job(db, world)
    small = control.release(db, organisation_id=world.organisation_id, job_id=held.id, actor="test:approver")
    ada = Person(client, secrets["ada"])
    page = ada.get(PAGE)
    assert "<strong>8</strong> of <strong>2</strong> learners" in page
    assert f'<a href="/console/jobs/{small.id}">Job {small.id}</a>' in page
    assert "Used up" in page
    wrong = ada.post(PAGE, 422, floor="many", percent="5", note="a <b>reorganisation</b>")
    assert "enter a whole number" in wrong.text
    assert 'value="many"' in wrong.text
    ada.post(PAGE, floor="50", percent="5 %", hours="", note="a <b>reorganisation</b>")
    page = ada.get(PAGE)
    assert '<div class="notice told warn"><p role="status">Proposed.' in page
    assert "a &lt;b&gt;reorganisation&lt;/b&gt;" in page
    assert "Another owner or approver has to approve them." in page
    proposal_id = brake.show(db, organisation_id=world.organisation_id).proposal
    assert proposal_id is not None
    path = f"{PAGE}/proposals/{proposal_id.id}"
    assert "not a second person" in ada.post(f"{path}/approve", 409).text
    vic = Person(client, secrets["vic"])
    assert "An approver can approve or reject them." in vic.get(PAGE)
    vic.post(f"{path}/approve", 403)
    bea = Person(client, secrets["bea"])
    assert '<span title="token:ada">ada</span> has proposed other limits' in bea.get("/console")
    assert bea.post(f"{path}/reject", 422).text.count("needs a note")
    bea.post(f"{path}/approve")
    page = bea.get(PAGE)
    assert "Approved." in page
    assert "50 learners" in page
    assert "Propose other limits" not in page, "an approver does not propose"
    limits = brake.show(db, organisation_id=world.organisation_id)
    assert (limits.floor, limits.share, limits.own) == (50, 0.05, ["floor", "share"])


def test_a_proposal_is_rejected_or_taken_back_on_the_page(client: TestClient, token: MakeToken, world: World) -> None:
    secrets = {"ada": token("owner", name="ada"), "bea": token("owner", name="bea")}
    for who, act, form, said in (("bea", "reject", {"note": "too many"}, "Rejected"), ("ada", "withdraw", {}, "Taken")):
        Person(client, secrets["ada"]).post(PAGE, floor="5", note="why")
        proposal_id = world.one("SELECT max(id) FROM withdrawals.limit_proposals")
        person = Person(client, secrets[who])
        person.post(f"{PAGE}/proposals/{proposal_id}/{act}", **form)
        assert said in person.get(PAGE)
    assert "“too many”" in person.get(PAGE)
    assert "take back" not in person.get(PAGE).lower()


def test_a_held_request_is_amber_and_its_form_is_gone(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    """A person job of somebody else holds the enrolment; the page says so, and nothing is sent twice."""
    held_job(db, world)
    one, two = world.enrolment("anna"), world.enrolment("anna")
    held = world.submit(db, [one, world.enrolment("ben"), world.enrolment("carl")])
    assert held.state == "held"
    mia = Person(client, token("operator", name="mia"))
    page = mia.get(f"/console/enrolments/{one}")
    assert f'Requested; waits for approval: <a href="/console/jobs/{held.id}">job {held.id}</a>' in page
    assert ">Withdraw</button>" not in page
    form = mia.get(f"/console/enrolments/{two}")
    assert ">Withdraw</button>" in form
    mia.post(f"/console/enrolments/{two}/withdraw", key=field_of(form, "key"), reason="not_required")
    page = mia.get(f"/console/enrolments/{two}")
    assert "waits for approval" not in page, "one learner of a signed-in person is never held"
    assert '<div class="notice told warn"><p role="status">Job 3 was accepted. Load the page again' in page
    assert ">Withdraw</button>" not in page
    decide_due(db, environment)
    assert world.status(two) == "withdrawn"
    assert_balanced(db)


def test_a_bulk_request_that_is_held_is_amber(client: TestClient, token: MakeToken, db: Database, world: World) -> None:
    held_job(db, world)
    mia = Person(client, token("operator", name="mia"))
    ids = world.enrolments(3)
    query = "&".join(f"enrolment_ids={one}" for one in ids)
    plan = mia.get(f"/console/withdraw?what=ticked&{query}&reason=not_required")
    assert "The brake would hold this job" in plan
    assert 'href="/console/brake"' in plan
    form = {"what": "ticked", "enrolment_ids": str(ids[0]), "reason": "not_required", "key": field_of(plan, "key")}
    answer = mia.client.post(
        "/console/withdraw", data={**form, "csrf": mia.csrf, "enrolment_ids": [str(i) for i in ids]}
    )
    assert answer.status_code == 303
    page = mia.get(answer.headers["location"])
    assert '<div class="notice told warn"><p role="status">Requested as job' in page
    assert "The brake: what used it, and its limits" in page


def test_a_plan_names_the_held_job_that_waits_for_the_same_enrolments(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    job = held_job(db, world)
    series = world.one("SELECT series_id FROM lms.enrolments LIMIT 1")
    mia = Person(client, token("operator", name="mia"))
    page = mia.get(f"/console/withdraw?what=all&series_id={series}&reason=not_required")
    assert (
        f'<p>8 enrolments that would be withdrawn also wait in <a href="/console/jobs/{job.id}">job {job.id}</a>, '
        "which is held until a second person decides."
    ) in page
    assert "The job that you plan here would be held as well." in page
    such = re.findall(r"For example: (.*)\.</span>", page)[0]
    named = re.findall(r'<a href="/console/enrolments/(\d+)">([^<]*)</a>', such)
    assert len(named) == 5
    learners = "SELECT e.id, l.external_id FROM lms.enrolments e JOIN lms.learners l ON l.id = e.learner_id"
    assert {(int(one), learner) for one, learner in named} <= {tuple(row) for row in world.run(learners)}
    two = "&".join(f"enrolment_ids={one}" for one, _ in named[:2])
    few = mia.get(f"/console/withdraw?what=ticked&{two}&reason=not_required")
    assert f'They are: <a href="/console/enrolments/{named[0][0]}">{named[0][1]}</a>, ' in few
    one = mia.get(f"/console/withdraw?what=ticked&enrolment_ids={named[0][0]}&reason=not_required")
    assert "1 enrolment that would be withdrawn also waits in" in one
    assert f'It is: <a href="/console/enrolments/{named[0][0]}">' in one
    assert "So it is with" not in page
    assert ">Request 8: an approver releases it</button>" in page, "it is a warning alone"
    brake.set_limits(
        db, organisation_id=world.organisation_id, wanted=BrakeSetting(floor=100, share=0.1), actor="test:approver"
    )
    within = mia.get(f"/console/withdraw?what=ticked&enrolment_ids={named[0][0]}&reason=not_required")
    assert "Withdrawing it here needs no second person: this job is within the limits" in within
    assert "would be held as well" not in within


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_who_may_not_withdraw_is_offered_no_form(
    client: TestClient, token: MakeToken, world: World, role: Role
) -> None:
    enrolment = world.enrolment("anna")
    series = world.one("SELECT series_id FROM lms.enrolments")
    person, offered = Person(client, token(role)), role is Role.OPERATOR
    assert (">Withdraw</button>" in person.get(f"/console/enrolments/{enrolment}")) is offered
    assert ("Withdraw this Series" in person.get(f"/console/series/{series}")) is offered
    assert ("Withdraw from a file" in person.get("/console/series")) is offered
