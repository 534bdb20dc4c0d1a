"""The demo's people, whom its sign-in page offers by name, and nobody else: not elsewhere, not from elsewhere."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from tests.support.console import MakeToken, Person, field_of, held_job
from tests.world import World
from worker.access import sessions, tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.web.console.view import COOKIE

HERE = "/console/sign-in/demo"
PROVIDER = {
    "oidc_issuer": "https://id.example",
    "oidc_client_id": "console",
    "oidc_roles": "staff=viewer@Acme",
    "public_url": "http://127.0.0.1:8000",
}
OWNERS_PAGES = [
    *(f"/console/settings/{name}" for name in ("sources", "webhooks", "notifications", "policies")),
    "/console/brake",
]
Door = Callable[..., TestClient]


@pytest.fixture
def people(db: Database, world: World) -> dict[str, int]:
    """Those of the demo by name, and a token that somebody else has made."""
    made_by = {"olivia": sessions.MADE_BY_UP, "paul": sessions.MADE_BY_UP, "eve": "cli:eve"}
    roles = {"olivia": "owner", "paul": "approver", "eve": "owner"}
    return {
        name: tokens.create(
            db, organisation_id=world.organisation_id, name=name, role=roles[name], actor=maker
        ).token.id
        for name, maker in made_by.items()
    }


@pytest.fixture
def door(db: Database, environment: Settings, people: dict[str, int]) -> Iterator[Door]:
    """The console as `up --demo` starts it, for a caller at an address; with other settings where they are given."""
    opened = []

    def make(at: str = "http://127.0.0.1:8000", client: str = "127.0.0.1", **other: object) -> TestClient:
        values = {"demo_people": ",".join(map(str, people.values())), "host": "127.0.0.1", **other}
        app = make_app(
            db, make_broker(environment.broker_url.get_secret_value()), environment.model_copy(update=values)
        )
        made = TestClient(app, base_url=at, client=(client, 50_000), follow_redirects=False)
        made.__enter__()
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.__exit__()


def test_the_sign_in_page_of_a_demo_offers_its_people_by_name(door: Door, people: dict[str, int]) -> None:
    client = door()
    page = client.get("/console/sign-in?next=/console/jobs").text
    assert "Sign in as olivia (owner)" in page
    assert "Sign in as paul (approver)" in page
    assert "eve" not in page, "not a token of the demo, whatever the setting says"
    answer = client.post(HERE, data={"person": str(people["paul"]), "next": "/console/jobs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/jobs")
    assert "paul (approver)" in client.get("/console").text


def test_who_asked_for_a_held_job_reads_who_can_release_it_and_goes_on_as_them(
    door: Door, people: dict[str, int], db: Database, world: World
) -> None:
    job = held_job(db, world)
    world.run("UPDATE withdrawals.jobs SET requested_by = 'token:olivia'")
    client = door()
    client.post(HERE, data={"person": str(people["olivia"])})
    for place in (f"/console/jobs/{job.id}", "/console/approvals"):
        page = client.get(place).text
        assert 'Who can: <span title="token:eve">eve</span>, <span title="token:paul">paul</span>.' in page
        assert page.count(f'name="person" value="{people["paul"]}"') == 1
        assert f'name="next" value="{place}"' in page
    client.post(HERE, data={"person": str(people["paul"])})
    page = client.get(f"/console/jobs/{job.id}").text
    assert f'action="/console/jobs/{job.id}/release"' in page
    assert HERE not in page
    client.post(f"/console/jobs/{job.id}/release", data={"csrf": field_of(page, "csrf")})
    page = client.get(f"/console/jobs/{job.id}").text
    assert "Go on as olivia (owner)" in page, "a way back to who asked"
    assert f'name="next" value="/console/jobs/{job.id}"' in page
    page = client.get("/console/sessions").text
    assert "Go on as olivia (owner)" in page, "a way back"
    assert "Go on as paul" not in page
    client.post(HERE, data={"person": str(people["olivia"])})
    assert "olivia (owner)" in client.get("/console/sessions").text


def test_what_an_owner_can_do_is_done_as_the_owner_of_the_demo(door: Door, people: dict[str, int]) -> None:
    client = door()
    client.post(HERE, data={"person": str(people["olivia"])})
    for place in OWNERS_PAGES:
        assert HERE not in client.get(place).text
    client.post(HERE, data={"person": str(people["paul"])})
    for place in OWNERS_PAGES:
        page = client.get(place).text
        assert page.index("An owner can") < page.index("Go on as olivia (owner)"), place
        assert f'name="next" value="{place}"' in page


def test_who_has_decided_on_an_approval_goes_back_as_who_asked(door: Door, people: dict[str, int]) -> None:
    client = door()
    client.post(HERE, data={"person": str(people["olivia"])})
    policies = "/console/settings/policies"
    form = {"act": "override", "how": "up_to", "size": "9", "note": "since the audit"}
    client.post(policies, data={**form, "csrf": field_of(client.get(policies).text, "csrf")})
    place = "/console/approvals/1"
    client.post(HERE, data={"person": str(people["paul"])})
    page = client.get(place).text
    assert HERE not in page
    client.post(f"{place}/approve", data={"csrf": field_of(page, "csrf")})
    page = client.get(place).text
    assert "Approved" in page
    assert "Go on as olivia (owner)" in page
    client.post(HERE, data={"person": str(people["olivia"])})
    assert HERE not in client.get(place).text, "she has not decided"


@pytest.mark.parametrize(
    ("how", "headers"),
    [
        ({"demo_people": ""}, {}),
        ({"host": "0.0.0.0"}, {}),  # noqa: S104 - what is refused
        ({"client": "192.0.2.7"}, {}),
        # whoever runs the service has said that people sign in at their provider
        ({"console_tokens": False, **PROVIDER}, {}),
        ({"at": "http://demo.example"}, {}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Origin": "http://evil.example"}),
    ],
)
def test_nobody_is_signed_in_by_name_outside_a_demo_from_another_machine_or_by_another_site(
    door: Door, people: dict[str, int], how: dict[str, object], headers: dict[str, str]
) -> None:
    client = door(**how)
    if not headers:
        assert "Sign in as" not in client.get("/console/sign-in").text
    answer = client.post(HERE, data={"person": str(people["paul"])}, headers=headers)
    assert answer.status_code == 403
    assert COOKIE not in answer.cookies


def test_a_token_of_another_maker_and_a_revoked_one_are_refused(
    door: Door, people: dict[str, int], db: Database, world: World
) -> None:
    client = door()
    tokens.revoke(db, organisation_id=world.organisation_id, token_id=people["paul"], actor="test")
    for person in (people["eve"], people["paul"], 999, "", "x", -1):
        assert client.post(HERE, data={"person": str(person)}).status_code == 403
    assert world.one("SELECT count(*) FROM withdrawals.sessions") == 0


def test_without_anybody_else_the_page_of_a_held_job_says_what_to_do(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    job = held_job(db, world)
    mia = token("approver", name="mia")
    page = Person(client, mia).get(f"/console/jobs/{job.id}")
    assert "Nobody else can at the moment." in page
    assert "Ask whoever runs the service" in page
    token("approver", name="eve")
    token("operator", name="olaf")
    page = Person(client, mia).get(f"/console/jobs/{job.id}")
    assert 'Who can: <span title="token:eve">eve</span>.' in page
    assert "They find it on the page Approvals" in page
    assert HERE not in page
