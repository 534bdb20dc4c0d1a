"""A second person is another person: not one's own token, nor oneself at another browser or by another name."""

import re
from typing import Any
from urllib.parse import quote

from starlette.testclient import TestClient

from schemas.control import BrakeSetting
from tests.approvals.office import Office
from tests.sign_on.conftest import Console
from tests.support.commandline import done
from tests.support.console import held_job
from tests.support.providers import Forger, sign_in_at
from tests.world import World
from worker.access.persons import member_actor
from worker.config import Settings
from worker.database import Database
from worker.jobs import brake

BOSS = {"groups": ["bosses"]}
OF = ("--role", "approver", "--member")


def act(client: TestClient, path: str, **data: str) -> Any:
    """Send a form of the console."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/console").text)
    assert found
    return client.post(path, data={"csrf": found[1], **data})


def test_nobody_releases_their_own_job_through_a_token_or_another_browser(
    console: Console, forger: Forger, world: World, db: Database
) -> None:
    ada, phone, namesake, bob = (console(forger.issuer) for _ in range(4))
    sign_in_at(ada, forger, **BOSS)
    sign_in_at(bob, forger, sub="bob", name="Bob", **BOSS)
    member, bobs = (done("members", "list")["items"][place]["id"] for place in (0, 1))
    tokens = [
        done("tokens", "create", "--name", name, "--role", "approver", "--member", of)["token"]
        for name, of in (("first", member), ("second", member), ("of-bob", bobs))
    ]
    mine, second, of_bob = ({"Authorization": f"Bearer {token}"} for token in tokens)

    jobs = [
        held_job(db, world, actor=member_actor("Ada Lovelace", member)).id,
        held_job(db, world, actor="token:first").id,
    ]
    sign_in_at(phone, forger, name="Ada King", **BOSS)  # the same subject, since with another name
    for job in jobs:
        for headers in (mine, second):
            answer = ada.post(f"/v1/jobs/{job}/release", headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:withdrawals:problem:own_job"), job
        for visitor in (ada, phone):
            assert "not a second person" in act(visitor, f"/console/jobs/{job}/release").text
    page = ada.get(f"/console/jobs/{jobs[0]}").text
    assert ">Ada Lovelace<" in page, "pages show the name alone"
    sign_in_at(namesake, forger, sub="another-ada", **BOSS)
    assert act(namesake, f"/console/jobs/{jobs[0]}/release").status_code == 303, "another person of the same name"
    assert ada.post(f"/v1/jobs/{jobs[1]}/release", headers=of_bob).status_code == 200


def test_a_proposal_is_withdrawn_by_its_person_and_approved_by_another(
    console: Console, forger: Forger, world: World, db: Database
) -> None:
    ada, phone, bob = (console(forger.issuer) for _ in range(3))
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=BrakeSetting(floor=2, share=0.1), actor="test:x")
    sign_in_at(ada, forger, **BOSS)
    sign_in_at(phone, forger, name="Ada King", **BOSS)
    sign_in_at(bob, forger, sub="bob", name="Bob", groups=["approvers"])
    for path in ("withdraw", "approve"):
        wanted = {"floor": "5", "percent": "20", "hours": "24", "note": "a merger"}
        assert act(ada, "/console/brake", **wanted).status_code == 303
        proposal = world.one("SELECT max(id) FROM withdrawals.limit_proposals")
        assert act(phone, f"/console/brake/proposals/{proposal}/approve").status_code == 409
        who = phone if path == "withdraw" else bob
        assert act(who, f"/console/brake/proposals/{proposal}/{path}").status_code == 303, path


def test_a_page_offers_nothing_that_is_refused_as_the_same_person(
    console: Console, forger: Forger, world: World, db: Database
) -> None:
    """What Ada asked for with her token is hers in her browser as well; Bob may decide on all of it."""
    ada, bob = (console(forger.issuer) for _ in range(2))
    sign_in_at(ada, forger, **BOSS)
    sign_in_at(bob, forger, sub="bob", name="Bob", **BOSS)
    member = done("members", "list")["items"][0]["id"]
    token = done("tokens", "create", "--name", "hers", "--role", "owner", "--member", member)["token"]
    hers = {"Authorization": f"Bearer {token}"}
    job = held_job(db, world, actor="token:hers").id
    assert ada.put("/v1/brake", headers=hers, json={"floor": 7, "note": "why"}).status_code == 202
    learner = world.one("SELECT external_id FROM lms.learners ORDER BY id LIMIT 1")
    made = {"learner_external_id": learner, "kind": "legal_hold", "reason": "case 7"}
    assert ada.post("/v1/protections", headers=hers, json=made).status_code == 201
    offers = {
        f"/console/jobs/{job}": f'action="/console/jobs/{job}/release"',
        "/console/brake": '/approve"',
        f"/console/people?learner={learner}": '/lift"',
    }
    offered = {who: [path for path, form in offers.items() if form in who.get(path).text] for who in (ada, bob)}
    assert offered == {ada: [], bob: list(offers)}
    assert "Take back" not in ada.get("/console/brake").text, "only who proposed by this very name takes back"


def test_nobody_approves_through_a_token_or_another_browser_what_they_asked_for(
    console: Console, forger: Forger, world: World, db: Database, environment: Settings
) -> None:
    """Ada asks with her token; her browsers and her other token are she. The link leads Bob there after his sign-in."""
    office = Office(db, world, environment)
    letters = office.letters()
    office.rules(override=0)
    ada, phone, bob = (console(forger.issuer) for _ in range(3))
    sign_in_at(ada, forger, **BOSS)
    sign_in_at(phone, forger, name="Ada King", **BOSS)
    member = done("members", "list")["items"][0]["id"]
    hers, other = (
        {"Authorization": f"Bearer {done('tokens', 'create', '--name', name, *OF, member)['token']}"}
        for name in ("hers", "other")
    )
    asking = {"remedy": "override", "note": "why"}
    asked = ada.post(f"/v1/dead-letters/{letters[0]}/resolve", headers=hers, json=asking).json()["approval"]
    page = f"/console/approvals/{asked['id']}"
    answer = ada.post(f"/v1/approvals/{asked['id']}/approve", headers=other)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:withdrawals:problem:own_approval")
    for visitor in (ada, phone):
        assert f'action="{page}/approve"' not in visitor.get(page).text
        assert act(visitor, f"{page}/approve").status_code == 409
    assert bob.get(page).headers["location"].endswith(f"next={quote(page, safe='')}")
    sign_in_at(bob, forger, sub="bob", name="Bob", groups=["approvers"])
    assert f'action="{page}/approve"' in bob.get(page).text
    assert act(bob, f"{page}/approve").status_code == 303
    assert office.show(asked["id"]).state == "approved"
