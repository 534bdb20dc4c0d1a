"""A person's page: all that is known about them, and protections that an operator sets and an approver lifts."""

from urllib.parse import quote

from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import person_history


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
    for text in ("Inactive", "Protected", "user.deactivated was applied", "“returns in spring”", "Dead letters"):
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
