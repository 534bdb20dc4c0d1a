"""A person's page: all that is known about them, and protections that an operator sets and an approver lifts."""

import re
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, ask
from tests.world import World, assert_balanced, decide_due, eventually
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import person_history, remedies


def test_a_learner_is_protected_and_the_protection_lifted_on_their_page(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    """The external id has characters that an address and a page must not take for their own."""
    external_id = "Zoë & <b>Co</b>/1?"
    page = f"/console/people?learner={quote(external_id)}"
    secrets = {name: token(role, name=name) for name, role in (("ola", "operator"), ("bea", "approver"))}
    one, two = world.enrolment(external_id), world.enrolment(external_id)
    ola = Person(client, secrets["ola"])
    assert f'value="{external_id}"' not in ola.get(page)
    assert "/console/people?learner=Zo%C3%AB+%26+%3Cb%3ECo%3C%2Fb%3E%2F1%3F" in ola.get(f"/console/enrolments/{one}")
    form = {"learner": external_id, "kind": "exemption", "reason": "returns in spring"}
    refused = ola.post("/console/people/protect", 422, **form)
    assert "an exemption needs an end" in refused.text
    assert "returns in spring" in refused.text, "what was typed is kept"
    ola.post("/console/people/protect", **form, enrolment=str(one), until="2990-01-31")
    ola.post("/console/people/protect", **{**form, "kind": "legal_hold"})
    shown = ola.get(page)
    assert shown.count("Nothing withdraws") >= 2
    assert "An approver other than you can lift it." in shown
    world.event(db, "deactivated", external_id)
    decide_due(db, environment)
    bea = Person(client, secrets["bea"])
    shown = bea.get(page)
    for text in ("Inactive", "Protected", "user.deactivated was applied", "“returns in spring”", "Letters"):
        assert text in shown
    assert "nothing withdraws this enrolment" in bea.get(f"/console/enrolments/{two}")

    found = person_history.show(db, organisation_id=world.organisation_id, external_id=external_id)
    hold = next(one for one in found.live_protections if one.kind == "legal_hold")
    lift = f"/console/protections/{hold.id}/lift"
    bea.post(lift, 422, learner=external_id)
    bea.post(lift, learner=external_id, note="case closed")
    shown = bea.get(page)
    assert "Lifted. What it kept back is tried again within a day." in shown
    assert "“case closed”" in shown
    assert "nothing withdraws this enrolment" not in bea.get(f"/console/enrolments/{two}")
    assert "nothing withdraws this enrolment" in bea.get(f"/console/enrolments/{one}")
    link = "learner=Zo%C3%AB+%26"
    assert link in bea.get("/console/enrolments?learner=zOE"), "a search finds it"
    assert link in bea.get(f"/console/enrolments?learner={quote('ZOË &')}")
    assert link not in bea.get("/console/enrolments?learner=zoo")
    assert "nothing is known about" in bea.get("/console/people?learner=nobody", 404)


def test_a_job_whose_exceptions_are_resolved_is_called_so_on_the_page_of_a_person_as_in_lists(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    """As long as anybody's letter of the job is open it is not."""
    pathway = world.pathway("Onboarding")
    job = ask(db, world, [world.enrolment(one, pathway_id=pathway) for one in ("anna", "ben")])
    decide_due(db, environment)
    viewer, secret = Person(client, token("viewer")), token("viewer")
    pages = ("/console/people?learner=anna", "/console/jobs", f"/console/jobs/{job.id}")

    def shown() -> list[str]:
        return [re.findall("Completed[^<]*(?=</span>)", viewer.get(page).split("<main")[1])[0] for page in pages]

    def letters_open() -> int:
        found = client.get("/v1/people/anna", headers={"Authorization": f"Bearer {secret}"}).json()
        return int(found["jobs"][0]["open_dead_letters"])

    for left, letter in zip((2, 1), world.letters(), strict=True):
        assert (shown(), letters_open()) == (["Completed with exceptions"] * 3, left)
        remedies.resolve(
            db, organisation_id=world.organisation_id, letter_ids=[letter.id], remedy="keep", actor="test:support",
            note="agreed",
        )  # fmt: skip
    assert (shown(), letters_open()) == (["Completed, exceptions resolved"] * 3, 0)


@pytest.mark.usefixtures("deciding")
def test_all_that_is_active_is_withdrawn_and_taken_back_on_the_page_of_a_person(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    """One click for one learner; what a pathway owns stays; who may not act reads who can."""
    page, form = "/console/people?learner=anna", {"learner": "anna", "key": "one-form"}
    ids = [world.enrolment("anna") for _ in range(3)]
    owned = world.enrolment("anna", pathway_id=world.pathway("Onboarding"))
    secrets = {name: token(role, name=name) for name, role in (("ola", "operator"), ("vic", "viewer"))}
    vic = Person(client, secrets["vic"])
    assert "An operator can withdraw 3 enrolments." in vic.get(page)
    assert "Withdraw …" not in vic.get(page)
    vic.post("/console/people/withdraw", 403, **form, withdrawal_reason="not_required")
    ola = Person(client, secrets["ola"])
    shown = ola.get(page)
    assert ">Withdraw 3 enrolments</button>" in shown
    assert "1 more is owned by a Learning Pathway and stays." in shown
    assert {int(one) for one in re.findall(r'/enrolments/(\d+)" aria-label="Withdraw …', shown)} == set(ids)
    listed = {"enrolment_ids": re.findall(r'name="enrolment_ids" value="(\d+)"', shown)}
    refused = ola.post("/console/people/withdraw", 422, **form, withdrawal_note="left")
    assert 'id="wrong-withdrawal_reason"' in refused.text
    assert ">left</textarea>" in refused.text
    for _ in range(2):  # the same form, sent twice
        ola.post("/console/people/withdraw", **form, **listed, withdrawal_reason="not_required")
        shown = ola.get(page)
    assert [world.status(one) for one in (*ids, owned)] == ["withdrawn"] * 3 + ["in_progress"]
    assert "Job 1 has ended: 3 withdrawn." in shown
    assert shown.count('action="/console/jobs/1/take-back"') == 4, "each enrolment, and the job"

    back = {"back": page, "enrolment_ids": str(ids[0])}
    vic = Person(client, secrets["vic"])
    assert "take-back" not in vic.get(page)
    vic.post("/console/jobs/1/take-back", 403, **back, key="k")
    ola = Person(client, secrets["ola"])
    assert (
        ola.post("/console/jobs/1/take-back", **{**back, "back": "https://x.example"}, key="a").headers["location"]
        == "/console"
    )
    assert "Reinstated." in ola.get(page)
    assert [world.status(one) for one in ids] == ["in_progress", "withdrawn", "withdrawn"]
    for history in (page, f"/console/enrolments/{ids[0]}/history"):
        shown = ola.get(history)
        assert shown.count("asked to reinstate what job 1 withdrew") == 1
        assert "job.reinstate" not in shown, "one click, one line"
    ola.post("/console/jobs/1/take-back", **back, key="b")
    assert "Nothing is left to reinstate." in ola.get(page)
    assert ">Reinstate</button>" in ola.get(f"/console/enrolments/{ids[1]}")
    for _ in range(2):
        ola.post("/console/jobs/1/take-back", back=page, key="c")
        assert "Job 3 has ended: 2 reinstated." in ola.get(page)
    assert {world.status(one) for one in ids} == {"in_progress"}
    assert "take-back" not in ola.get(page)
    assert_balanced(db)


@pytest.mark.usefixtures("deciding")
def test_a_job_of_several_learners_is_taken_back_after_its_plan(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    """On the Series there is the way to it; one click does it for one learner alone."""
    ids = world.enrolments(3)
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=ids[0])
    job = ask(db, world, ids)
    eventually(lambda: world.one("SELECT finished_at FROM withdrawals.jobs"))
    ola = Person(client, token("operator", name="ola"))
    page = ola.get(f"/console/series/{series}")
    assert f'href="/console/jobs/{job.id}/undo?series_id={series}"' in page
    answer = ola.post(f"/console/jobs/{job.id}/take-back", back=f"/console/series/{series}", key="k")
    assert answer.headers["location"] == f"/console/jobs/{job.id}/undo"
    assert world.one("SELECT count(*) FROM withdrawals.jobs") == 1
    assert ">Reinstate 3 enrolments</button>" in ola.get(answer.headers["location"])
