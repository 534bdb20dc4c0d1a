"""Behind a proxy that ends TLS: cookies, HSTS, links and callers' addresses, and what strangers cannot pretend."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app

Bearer = Callable[..., dict[str, str]]
PROXY = "10.0.0.7"
HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}


@contextmanager
def behind(db: Database, environment: Settings, *, peer: str = PROXY, **given: Any) -> Iterator[TestClient]:
    """The application as `peer` reaches it."""
    current = environment.model_copy(update=given)
    app = make_app(db, make_broker(current.broker_url.get_secret_value()), current)
    with TestClient(app, base_url="http://inside:8000", client=(peer, 50_000), follow_redirects=False) as client:
        yield client


def sign_in(client: TestClient, bearer: Bearer, headers: dict[str, str]) -> str:
    """The cookie of a sign-in."""
    token = bearer("viewer")["Authorization"].removeprefix("Bearer ")
    answer = client.post("/console/sign-in", data={"token": token}, headers=headers)
    assert answer.status_code == 303
    return answer.headers["set-cookie"]


def test_a_trusted_proxy_over_https_gets_a_secure_cookie_and_hsts(
    db: Database, environment: Settings, bearer: Bearer
) -> None:
    with behind(db, environment, trusted_proxies=PROXY) as client:
        assert "Secure" in sign_in(client, bearer, HTTPS)
        for path in ("/console/sign-in", "/healthz", "/v1/jobs", "/nowhere"):
            assert client.get(path, headers=HTTPS).headers["strict-transport-security"].startswith("max-age=")
        assert "Secure" not in sign_in(client, bearer, {})
        assert "strict-transport-security" not in client.get("/healthz").headers


def test_nobody_else_is_believed(db: Database, environment: Settings, bearer: Bearer) -> None:
    for peer, proxies in ((PROXY, ""), ("10.0.0.8", PROXY), ("127.0.0.1", "")):
        with behind(db, environment, peer=peer, trusted_proxies=proxies) as client:
            assert "Secure" not in sign_in(client, bearer, HTTPS)
            assert "strict-transport-security" not in client.get("/healthz", headers=HTTPS).headers


def test_the_public_address_makes_https_the_rule_and_names_the_service(
    db: Database, environment: Settings, bearer: Bearer
) -> None:
    with behind(db, environment, public_url="https://withdrawals.example") as client:
        assert "Secure" in sign_in(client, bearer, {"Origin": "https://withdrawals.example"})
        assert "strict-transport-security" in client.get("/healthz").headers
        found = client.get("/scim/v2/ServiceProviderConfig", headers=bearer("scim")).json()
        assert found["meta"]["location"].startswith("https://withdrawals.example/scim/v2/")
        token = bearer("viewer")["Authorization"].removeprefix("Bearer ")
        foreign = client.post(
            "/console/sign-in", data={"token": token}, headers={"Origin": "http://inside:8000", "Host": "inside:8000"}
        )
        assert foreign.status_code == 403


def refusals(client: TestClient, *forwarded: str) -> list[int]:
    """The answers to calls without a token, each with this header."""
    return [client.get("/v1/jobs", headers={"X-Forwarded-For": value}).status_code for value in forwarded]


def test_callers_behind_a_trusted_proxy_are_told_apart(db: Database, environment: Settings) -> None:
    with behind(db, environment, trusted_proxies=f"{PROXY},192.168.0.0/16", refusal_limit=2) as client:
        assert refusals(client, *["203.0.113.5"] * 3) == [401, 401, 429]
        assert refusals(client, *["203.0.113.6"] * 3) == [401, 401, 429]
        assert refusals(client, "198.51.100.1, 203.0.113.5, 192.168.3.4") == [429], "the nearest untrusted one"


def test_an_invented_address_leaves_nobody_out_of_the_count(db: Database, environment: Settings) -> None:
    with behind(db, environment, trusted_proxies=PROXY, refusal_limit=2) as client:
        answers = refusals(client, *(f"198.51.100.{n}, 203.0.113.5" for n in range(3)))
        assert answers == [401, 401, 429], "a proxy adds the caller's address behind what the caller sent"
    with behind(db, environment, peer="203.0.113.9", trusted_proxies=PROXY, refusal_limit=2) as client:
        answers = refusals(client, *(f"198.51.100.{n}" for n in range(3)))
        assert answers == [401, 401, 429], "whoever does not come through the proxy is counted by their own address"
