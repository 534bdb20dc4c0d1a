"""The pages of the settings, each with its history; secrets are shown once and stay secret."""

import base64
import html
import json
import re
import time
from typing import Any

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from schemas.catalogue import Role
from schemas.events import KNOWN_TYPES
from tests.approvals.office import Office
from tests.support.commandline import done
from tests.support.console import SOURCES, MakeToken, Person, SignIn, add_source, connected, field_of
from tests.support.web import event, signed
from tests.world import World, eventually
from worker.access import sessions, tokens
from worker.access.sessions import Limits, MemberSignIn
from worker.config import Settings, settings
from worker.database import Database
from worker.notifications import transport
from worker.notifications.sender import Sender
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.webhooks import safe_post
from worker.webhooks.deliveries import Deliverer

HOOKS = "/console/settings/webhooks"
MEMBERS = "/console/settings/members"
TOKENS = "/console/settings/tokens"
TOLD = "/console/settings/notifications"


def secret_on(page: str) -> str:
    found = re.search(r'<pre class="secret"[^>]*>([^<]*)</pre>', page)
    assert found, page
    return found[1]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def written(world: World) -> str:
    """All that the audit has, as text."""
    return str(world.run("SELECT coalesce(json_agg(a), '[]')::text FROM withdrawals.audit a")[0][0])


def test_a_token_is_made_shown_once_and_revoked_on_its_page(
    client: TestClient, token: MakeToken, db: Database, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {"ada": token("owner", name="ada"), "bea": token("approver", name="bea")}
    bea = Person(client, secrets["bea"])
    bea.get(TOKENS, 403)
    bea.post(TOKENS, 403, name="x", role="owner")
    assert f'href="{TOKENS}"' not in bea.get(SOURCES), "what a role may not see is not offered"
    ada = Person(client, secrets["ada"])
    assert "choose one" in ada.post(TOKENS, 422, name="sync", role="").text
    wrong = ada.post(TOKENS, 422, name=" ", role="producer")
    assert 'id="wrong-name"' in wrong.text, "the error stands at its field"
    assert "exists. Revoke it first" in ada.post(TOKENS, 409, name="ADA", role="viewer").text
    answer = ada.post(TOKENS, name="sync <b>", role="producer", note="every night")
    assert answer.headers["location"] == TOKENS, "the secret is in no address"
    page = ada.get(TOKENS)
    secret = secret_on(page)
    made = tokens.authenticate(db, secret)
    assert made is not None
    assert (made.name, made.role, made.created_by) == ("sync <b>", "producer", "token:ada")
    for text in (
        '<strong><span title="token:ada">ada</span></strong> (token) made the token sync &lt;b&gt; with the role',
        "sync &lt;b&gt;",
    ):
        assert text in page
    again = ada.get(TOKENS)
    assert secret not in again
    assert secret.split("_", 2)[2] not in written(world) + caplog.text
    assert "every night" in written(world), "why it is needed"
    ada.post(f"{TOKENS}/{made.id}/revoke")
    page = ada.get(TOKENS)
    assert "Token sync &lt;b&gt; is revoked." in page
    assert "revoked the token sync &lt;b&gt;" in page
    assert tokens.authenticate(db, secret) is None


def test_a_token_that_waits_is_shown_once_and_works_when_approved(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    office = Office(db, world, settings())
    secret, owner, eve = token("owner", name="mia"), bearer(token("owner")), bearer(token("approver"))
    office.rules(token=0)
    mia = Person(client, secret)
    mia.post(TOKENS, name="boss", role="owner", note="a new colleague")
    page = mia.get(TOKENS)
    assert "the token works once somebody has approved approval 1." in page
    shown = [secret_on(page)]
    wanted = {"name": "deputy", "role": "approver", "note": "she leaves in May"}
    made = client.post("/v1/tokens", json=wanted, headers=owner)
    assert (made.status_code, made.headers["cache-control"]) == (202, "no-store")
    assert made.json()["approval"]["id"] == 2
    shown.append(made.json()["token"])
    makers = world.run("SELECT requester_made_by FROM withdrawals.approvals ORDER BY id")
    assert None not in [row[0] for row in makers], "whoever made the requester's token is no second person"
    for number, secret in enumerate(shown, 1):
        assert tokens.authenticate(db, secret) is None
        assert client.post(f"/v1/approvals/{number}/approve", json={}, headers=eve).status_code == 200
        assert tokens.authenticate(db, secret) is not None
        assert secret not in written(world)


def test_an_hr_system_with_an_api_is_connected_on_its_page_and_over_http(
    client: TestClient, token: MakeToken, world: World
) -> None:
    secret, owner = token("owner", name="ada"), bearer(token("owner"))
    ada = Person(client, secret)
    form = {"name": "bob", "kind": "hibob", "api_key": "user:t0psecret", "api_url": "https://hibob.example/v1/"}
    unasked = ada.post(SOURCES, 422, **form).text
    assert 'id="wrong-on_deactivate"' in unasked, "people are not withdrawn because nobody chose otherwise"
    form["on_deactivate"] = "hold"
    for field, value in (("api_key", "nocolonhere"), ("api_key", ""), ("api_url", "ftp://x")):
        wrong = {**form, field: value}
        refused = ada.post(SOURCES, 422, **wrong)
        assert f'id="wrong-{field}"' in refused.text, (field, value)
        assert "nocolonhere" not in refused.text
        assert "t0psecret" not in refused.text
        body = {name: given for name, given in wrong.items() if given}
        assert client.post("/v1/sources", json=body, headers=owner).json()["detail"].startswith(f"{field}: ")
    document = client.post("/v1/sources", json={"name": "idp", "kind": "security-events"}, headers=owner).json()
    assert document["detail"].startswith("secret: is needed for kind 'security-events'")
    here = str(ada.post(SOURCES, **form).headers["location"])
    page = ada.get(here)
    assert "HiBob" in page
    assert "What an event looks like" not in page, "HiBob knows what it sends"
    form_page = ada.get(SOURCES)
    assert "Such as payroll" in form_page
    assert [form_page.count(term) for term in ("workday", "RFC 8417")] == [0, 1], "the RFC stands with its kind alone"
    made = client.post("/v1/sources", json={**form, "name": "bob-2"}, headers=owner)
    assert made.status_code == 201
    assert "t0psecret" not in page + made.text + written(world)
    keys = world.run("SELECT api_key, api_url FROM withdrawals.sources ORDER BY id")
    assert [row.api_url for row in keys] == ["https://hibob.example/v1"] * 2
    assert all(row.api_key and "t0psecret" not in row.api_key for row in keys)

    assert 'id="wrong-api_key"' in ada.post(f"{here}/api", 422, api_key="short").text
    ada.post(f"{here}/api", api_key="user:another")
    assert "replaced the API key of bob" in ada.get(here)
    path = f"/v1/sources/{made.json()['id']}/api"
    assert client.put(path, json={"api_key": "user:another"}, headers=owner).status_code == 200
    assert client.put(path, json={"api_key": "user:another"}, headers=bearer(token("approver"))).status_code == 403
    after = world.run("SELECT api_key, api_url FROM withdrawals.sources ORDER BY id")
    assert [row.api_url for row in after] == [None, None]
    assert not {row.api_key for row in keys} & {row.api_key for row in after}

    world.run("UPDATE withdrawals.sources SET created_at = now() - interval '9 days'")
    ada.post(f"{SOURCES}/silence", source="bob", hours="24")
    world.run("UPDATE withdrawals.silence_limits SET set_at = now() - interval '2 days'")
    page = ada.get(SOURCES)
    for text in (">Silent</span>", 'value="24"', "set the silence limit of bob: 24 hours"):
        assert text in page
    assert "enter a whole number" in ada.post(f"{SOURCES}/silence", 422, source="bob", hours="soon").text
    ada.post(f"{SOURCES}/silence", 404, source="nobody", hours="24")
    ada.post(f"{SOURCES}/silence", source="bob", hours="")
    assert ">Silent</span>" not in ada.get(SOURCES)
    viewer = Person(client, token("viewer"))
    assert "No limit" in viewer.get(SOURCES)
    viewer.post(f"{SOURCES}/silence", 403, source="bob", hours="1")


def test_what_is_wrong_with_the_name_of_a_source_is_said_once(client: TestClient, token: MakeToken) -> None:
    ada = Person(client, token("owner", name="ada"))
    form = {"kind": "standard", "on_deactivate": "withdraw", "grace_hours": "0"}
    refused = ada.post(SOURCES, 422, **form, name="Workday").text
    assert refused.count("Use up to 63 lower-case letters") == 1
    assert 'id="wrong-name"' in refused
    assert "enter a whole number" in ada.post(SOURCES, 422, **form | {"grace_hours": "x"}, name="workday").text


def test_a_new_secret_is_shown_to_the_session_that_made_it(client: TestClient, token: MakeToken, world: World) -> None:
    """The sealed cookie of one session says nothing in another."""
    secrets = {name: token("owner", name=name) for name in ("ada", "eve")}
    Person(client, secrets["ada"]).post(TOKENS, name="sync", role="producer")
    sealed = client.cookies["withdrawals_new_secret"]
    eve = Person(client, secrets["eve"])
    client.cookies.set("withdrawals_new_secret", sealed)
    assert "It is shown only this once." not in eve.get(TOKENS)


def test_an_hr_system_is_connected_heard_tested_and_rotated_on_its_page(
    client: TestClient, token: MakeToken, world: World
) -> None:
    secrets = {name: token(role, name=name) for name, role in (("ada", "owner"), ("ola", "operator"))}
    ada = Person(client, secrets["ada"])
    form = {"name": "workday", "kind": "standard", "on_deactivate": "hold", "grace_hours": "24"}
    for field, value in (("name", "Work Day"), ("kind", "fax"), ("grace_hours", "soon"), ("secret", "brief")):
        refused = ada.post(SOURCES, 422, **{**form, field: value})
        assert f'id="wrong-{field}"' in refused.text, field
        assert "brief" not in refused.text, "a secret that was typed is not sent back"
    page = ada.get(str(ada.post(SOURCES, **form).headers["location"]))
    first, here = secret_on(page), f"{SOURCES}/{world.one('SELECT id FROM withdrawals.sources')}"
    assert "http://testserver/hooks/hr/workday" in page
    assert "Never heard" in page
    assert "exists. Rotate its secret" in ada.post(SOURCES, 409, **form).text

    body = json.dumps(event()).encode()
    assert client.post("/hooks/hr/workday", content=body, headers=signed(first, body)).status_code == 202
    eventually(lambda: world.one("SELECT last_event_at FROM withdrawals.sources"))
    ola = Person(client, secrets["ola"])
    ola.post(f"{here}/test")
    page = ola.get(here)
    for text in ("Connected", "user.deactivated", "A test from this page", "Waits to be applied", "tested workday"):
        assert text in page
    assert "Replace the secret</button>" not in page
    assert "An owner can replace the secret" in page
    for act in ("rotate", "policy"):
        ola.post(f"{here}/{act}", 403)

    ada = Person(client, secrets["ada"])
    old = {"seen": field_of(ada.get(here), "seen"), "keep_hours": "1"}
    assert 'id="wrong-keep_hours"' in ada.post(f"{here}/rotate", 422, **{**old, "keep_hours": "ever"}).text
    ada.post(f"{here}/rotate", **old)
    second = secret_on(ada.get(here))
    assert "was replaced meanwhile" in ada.post(f"{here}/rotate", 409, **old).text, "the form is sent once"
    for number, secret in enumerate((first, second)):
        body = json.dumps(event(f"p{number}")).encode()
        assert client.post("/hooks/hr/workday", content=body, headers=signed(secret, body)).status_code == 202
    assert first not in (trace := written(world))
    assert second not in trace
    policy = {"on_deactivate": "withdraw", "grace_hours": "0"}
    assert 'id="wrong-grace_hours"' in ada.post(f"{here}/policy", 422, **{**policy, "grace_hours": "soon"}).text
    assert "Ask a second person first, 24 hours later" in ada.get(here)
    ada.post(f"{here}/policy", **policy)
    page = ada.get(here)
    assert "From now on, when a person is deactivated: Withdraw all that they are enrolled in." in page
    assert "changed what a deactivation by workday does" in page
    ada.post(f"{here}/disable")
    page = ada.get(here)
    assert "Disabled" in page
    assert "Send a test event" not in page
    assert "disabled workday" in page
    body = json.dumps(event("late")).encode()
    assert client.post("/hooks/hr/workday", content=body, headers=signed(second, body)).status_code == 401
    assert ada.get(f"{SOURCES}/999", 404)


def test_a_source_shows_what_an_event_looks_like_and_says_when_nothing_was_understood(
    client: TestClient, token: MakeToken, world: World
) -> None:
    """The example is an event that this service takes; one of another type is no proof of a connection."""
    ada = Person(client, token("owner", name="ada"))
    here = add_source(ada)
    page = ada.get(here)
    secret = secret_on(page)
    shown = re.search(r"<pre data-event>([^<]*)</pre>", page)
    assert shown
    example = html.unescape(shown[1])
    for name in (*KNOWN_TYPES, "webhook-id", "webhook-timestamp", "webhook-signature"):
        assert f"<code>{name}</code>" in page[page.index("What an event looks like") :]

    def send(body: str, key: str | None = None) -> None:
        content = body.encode()
        answer = client.post("/hooks/hr/workday", content=content, headers=signed(secret, content, key=key))
        assert answer.status_code in (202, 422), answer.text

    ada.post(f"{here}/test")
    assert "Test event received</span>" in ada.get(SOURCES), "a test is no event that nobody understood"
    send('{"type": "employee.terminated"}')
    eventually(lambda: world.one("SELECT last_event_at FROM withdrawals.sources"))
    page = ada.get(here)
    for shows_it in (ada.get(SOURCES), page):
        assert '<span class="badge warn">Heard from, nothing understood</span>' in shows_it
        assert "Connected</span>" not in shows_it
    assert "Not about a person" not in page
    assert "Its type is not one that this service knows." in page
    assert page.count("Its type is not") == 1, "not of the test"
    send('{"type": "user.deactivated"}')
    assert "Could not be read<br>" in ada.get(here)
    send(example, key="test-of-the-sender")
    for shows_it in (ada.get(SOURCES), ada.get(here)):
        assert "Connected</span>" in shows_it
        assert "nothing understood" not in shows_it


def test_a_source_shows_how_many_requests_were_refused_lately_and_why(
    client: TestClient, token: MakeToken, world: World
) -> None:
    ada = Person(client, token("owner", name="ada"))
    here = add_source(ada)
    secret = secret_on(ada.get(here))
    assert "refused since" not in ada.get(here)
    body = json.dumps(event("anna")).encode()
    other = "whsec_" + base64.b64encode(b"of another source" * 2).decode()
    late = signed(secret, body, at=time.time() - 301)
    for headers in (signed(other, body), {}, late, {**late, "webhook-id": "changed"}):
        sent = {"content-type": "application/json", **headers}
        assert client.post("/hooks/hr/workday", content=body, headers=sent).status_code == 401
    eventually(lambda: world.one("SELECT refused_signature + refused_time = 4 FROM withdrawals.sources"))
    page = re.sub("<[^>]+>", "", ada.get(here))
    assert re.search("4 requests were refused since .* The last:", page)
    assert "3: their signature or secret is wrong or missing." in page
    assert "1: its signature is right, and its time more than five minutes off." in page
    assert "4 requests were refused since" in ada.get(SOURCES)
    assert '<div class="notice warn stack">' in ada.get(here)
    world.run("UPDATE withdrawals.sources SET last_event_at = now() + interval '1 minute'")
    assert '<div class="notice stack">' in ada.get(here), "a genuine one has come since"
    world.run("UPDATE withdrawals.sources SET refused_at = now() - interval '8 days'")
    assert "refused since" not in ada.get(here)
    client.post("/hooks/hr/workday", content=body, headers=signed(other, body))
    eventually(lambda: world.one("SELECT refused_signature = 1 AND refused_time = 0 FROM withdrawals.sources"))


def test_the_page_of_a_source_renews_itself_until_its_first_event_and_keeps_a_secret_that_is_shown_once(
    sign_in: SignIn, console: str
) -> None:
    page = connected(sign_in, "standard")
    secret = page.locator("pre.secret").inner_text()
    body = json.dumps(event("anna")).encode()

    def send(by: str) -> None:
        kind = {"content-type": "application/json"}
        page.request.post(f"{console}/hooks/hr/payroll", data=body, headers={**kind, **signed(by, body)})

    send("whsec_" + base64.b64encode(b"of another source" * 2).decode())
    expect(page.get_by_text("1 request was refused since")).to_be_visible()
    send(secret)
    expect(page.get_by_role("cell", name="user.deactivated")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Connected")
    expect(page.locator("pre.secret")).to_have_text(secret)


def test_the_form_says_which_hr_system_makes_the_secret_itself(
    client: TestClient, token: MakeToken, sign_in: SignIn
) -> None:
    ada = Person(client, token("owner", name="ada"))
    form = {"name": "bamboo", "kind": "bamboohr", "on_deactivate": "hold", "grace_hours": "0"}
    page = html.unescape(ada.get(str(ada.post(SOURCES, **form).headers["location"])))
    assert "BambooHR takes no secret from here: enter the private key that BambooHR shows" in page
    given = {**form, "name": "bamboo-2", "secret": "a private key of BambooHR"}
    page = html.unescape(ada.get(str(ada.post(SOURCES, **given).headers["location"])))
    assert "takes no secret from here" not in page
    shown = sign_in("owner", at=SOURCES)
    said = shown.get_by_text("BambooHR makes the secret itself")
    secret = shown.get_by_label("Secret of the HR system")
    expect(said).to_be_hidden()
    expect(secret).to_be_hidden()
    shown.get_by_label("Which HR system").select_option("bamboohr")
    expect(said).to_be_visible()
    expect(secret).to_be_visible()
    assert "Leave it empty if you do not have it yet" in said.inner_text()


@pytest.mark.parametrize(
    ("host", "warns"),
    [
        *((host, True) for host in ("localhost:8000", "127.0.0.1", "192.168.4.2", "[::1]:8000", "hr.local", "desk")),
        *((host, False) for host in ("withdrawals.example.com", "9.9.9.9", "[2620:fe::fe]:8443")),
    ],
)
def test_a_source_warns_of_an_address_that_no_cloud_service_reaches(
    client: TestClient, token: MakeToken, world: World, host: str, warns: bool
) -> None:
    ada = Person(client, token("owner", name="ada"))
    here = add_source(ada)
    for _ in ("in the box of the secret", "at the connection", "after an event, perhaps of the same machine"):
        page = ada.client.get(here, headers={"host": host}).text
        assert page.count("A cloud service cannot reach this address") == warns
        assert page.count("Ask whoever runs this service for its public one") == warns
        if "pre class" not in page:
            world.run("UPDATE withdrawals.sources SET last_event_at = now()")


def test_a_source_shows_the_public_address_where_it_is_set(
    db: Database, environment: Settings, token: MakeToken
) -> None:
    public = environment.model_copy(update={"public_url": "https://withdrawals.example.com"})
    app = make_app(db, make_broker(public.broker_url.get_secret_value()), public)
    client = TestClient(app, base_url="https://127.0.0.1:8000", follow_redirects=False)
    ada = Person(client, token("owner"))
    page = ada.get(add_source(ada, "okta", "okta"))
    assert page.count("https://withdrawals.example.com/hooks/okta/okta") >= 3
    assert "127.0.0.1" not in page.partition("<main")[2]
    assert "A cloud service cannot reach" not in page


def test_a_webhook_is_added_tested_paused_rotated_and_replayed_on_its_page(
    client: TestClient,
    token: MakeToken,
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked = iter([500, 204, 204]), list[str]()

    def post(url: str, headers: dict[str, str], *_: Any, **__: Any) -> safe_post.Answer:
        asked.append(headers["webhook-signature"])
        return safe_post.Answer(status=next(answers))

    monkeypatch.setattr(safe_post, "post", post)
    secrets = {name: token(role, name=name) for name, role in (("ada", "owner"), ("ola", "operator"))}
    ada = Person(client, secrets["ada"])
    url = "https://desk.example/in?key=s3cret"
    for field, form in (("url", {"url": "ftp://x", "events": "job.held"}), ("events", {"url": url})):
        assert f'id="wrong-{field}"' in ada.post(HOOKS, 422, **form).text
    here = ada.post(HOOKS, url=url, events="job.held").headers["location"]
    page = ada.get(here)
    first = secret_on(page)
    assert "A job waits for a second person" in page

    ola = Person(client, secrets["ola"])
    ola.post(HOOKS, 403, url=url, events="job.held")
    ola.post(f"{here}/test")
    page = ola.get(here)
    assert "The test event did not arrive: the receiver answered 500." in page
    assert "The last attempt has failed" in page
    ola.post(f"{here}/pause")
    assert "by ola. What happens meanwhile waits" in ola.get(here)
    world.run("UPDATE withdrawals.endpoints SET rest_until = '-infinity'")
    deliverer = Deliverer(db, environment)
    assert deliverer.run() == 0, "nothing is sent while it is paused"
    ola.post(f"{here}/resume")
    assert deliverer.run() == 1
    page = ola.get(here)
    for text in ("Arrived", "The receiver answered 204", "resumed the webhook to desk.example", ">On</span>"):
        assert text in page
    delivery = world.one("SELECT id FROM withdrawals.deliveries")
    ola.post(f"{HOOKS}/deliveries/{delivery}/replay")
    assert "The event is sent again now." in ola.get(here)
    ola.post(f"{HOOKS}/deliveries/{delivery}/replay")  # a second click changes nothing
    ola.post(f"{HOOKS}/deliveries/999/replay", 404)

    ada = Person(client, secrets["ada"])
    form = {"keep_hours": "24", "seen": field_of(ada.get(here), "seen")}
    ada.post(f"{here}/rotate", **form)
    second = secret_on(ada.get(here))
    assert "was replaced meanwhile" in ada.post(f"{here}/rotate", 409, **form).text
    assert deliverer.run() == 1
    assert len(asked[-1].split()) == 2, "for a while events bear both signatures"
    for hidden in (first, second, "s3cret"):
        assert hidden not in written(world)
    ada.post(f"{here}/disable")
    page = ada.get(here)
    assert "disabled the webhook to desk.example" in page
    assert "Send a test event" not in page


def test_members_are_listed_with_their_roles_and_signed_out(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    secret = token("owner", name="ada")
    who = MemberSignIn(world.organisation_id, "https://idp", "s1", "Grace <i>", "g@x.example", Role.OPERATOR, None)
    sessions.sign_in_member(db, who, limits=Limits.of(environment))
    Person(client, token("approver")).get(MEMBERS, 403)
    ada = Person(client, secret)
    page = ada.get(MEMBERS)
    for text in ("Grace &lt;i&gt;", "g@x.example", "Operator", "signed in"):
        assert text in page
    assert "g@x.example" not in ada.get(TOKENS), "nobody makes a token that counts as somebody else"
    member = world.one("SELECT id FROM withdrawals.members")
    ada.post(f"{MEMBERS}/{member}/end-sessions")
    page = ada.get(MEMBERS)
    assert "One session of Grace &lt;i&gt; has ended." in page
    assert "Not signed in" in page
    assert "ended a session of" in page
    ada.post(f"{MEMBERS}/999/end-sessions", 404)


def test_what_is_kept_and_what_was_let_go_stands_on_a_page(
    client: TestClient, token: MakeToken, world: World, environment: Settings
) -> None:
    world.run(
        "INSERT INTO withdrawals.prunes (kind, organisation_id, day, row_count, counts, digest, files, pruned_by)"
        " VALUES ('audit', :o, '2026-03-01', 1234, '{}', 0, '[]', 'cli:ops')",
        o=world.organisation_id,
    )
    page = Person(client, token("viewer")).get("/console/settings/retention")
    for text in ("For ever", "30 days", "Audit of 2026-03-01", "1,234", "cli:ops"):
        assert text in page
    assert "WITHDRAWALS_" not in page, "whoever reads this page cannot change a setting of the service"
    (step,) = done("retention")["pruned"]
    assert (step["kind"], step["row_count"]) == ("audit", 1234)


def test_people_are_told_by_what_an_owner_adds_on_the_page(
    client: TestClient, token: MakeToken, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["SMTP 550", None])
    monkeypatch.setattr(transport, "send", lambda *_, **__: next(answers))
    secrets = {name: token(role, name=name) for name, role in (("ada", "owner"), ("ola", "operator"))}
    ada = Person(client, secrets["ada"])
    url, kinds = "json://desk.example/?name=t0psecret", ["job.held", "source.silent"]
    for field, form in (("kinds", {"url": url}), ("digest_hour", {"url": url, "kinds": kinds, "digest_hour": "24"})):
        refused = ada.post(TOLD, 422, **form)
        assert f'id="wrong-{field}"' in refused.text
        assert "t0psecret" not in refused.text
    assert "The service has no mail server" in ada.post(TOLD, 409, to="a@b.example", kinds=kinds).text
    ada.post(TOLD, url="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23help", kinds=kinds, digest_hour="8")
    page = ada.get(TOLD)
    for text in ("slack://", "Job held; Source silent", "Daily at 08:00", "added notification 1"):
        assert text in page
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in page + written(world)

    ola = Person(client, secrets["ola"])
    ola.post(TOLD, 403, url=url, kinds=kinds)
    ola.post(f"{TOLD}/1/remove", 403)
    ola.post(f"{TOLD}/1/test")
    page = ola.get(TOLD)
    assert "The test message was not sent: SMTP 550." in page
    assert "An owner can add a notification" in page
    ola.post(f"{TOLD}/messages/1/retry")
    page = ola.get(TOLD)
    assert ">Waits</span>" in page
    assert "sent message 1 again" in page
    assert Sender(db, settings()).run() == 1
    assert ">Sent</span>" in ola.get(TOLD)
    ola.post(f"{TOLD}/messages/1/retry", 409)
    ola.post(f"{TOLD}/messages/9/retry", 404)

    ada = Person(client, secrets["ada"])
    ada.post(f"{TOLD}/1/remove")
    page = ada.get(TOLD)
    assert "Nobody is told yet" in page
    assert "removed notification 1" in page
    ada.post(f"{TOLD}/1/test", 404)
