"""Providers to sign in with: a forger that signs whatever a test wants; and a browser's part of a sign-in."""

import base64
import hmac
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from tests.support.processes import process
from tests.support.scraping import free_port
from tests.world import PATIENCE, eventually
from worker.config import Settings

PUBLIC = "http://localhost:8000"
CLIENT, SECRET = "withdrawals", "a-secret-of-the-tests-alone"
FOLDER = Path(__file__).parents[1] / "provider"
"""Of the certified provider."""


def settings_for(environment: Settings, issuer: str, roles: str, **more: Any) -> Settings:
    """Settings with this provider."""
    given = {"oidc_issuer": issuer, "oidc_client_id": CLIENT, "oidc_roles": roles, "public_url": PUBLIC, **more}
    return environment.model_copy(update=given)


def new_key() -> RSAKey:
    """A key of a provider."""
    return RSAKey.generate_key(2048, {"kid": uuid4().hex, "use": "sig"})


@dataclass
class Forger:
    """A provider that hands out whatever the test wants: claims, signatures, keys and metadata."""

    issuer: str = ""
    key: RSAKey = field(default_factory=new_key)
    published: list[RSAKey] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    """Change what the id token says; None leaves a claim out."""
    sign: Callable[[dict[str, Any]], str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    begun: dict[str, str] = field(default_factory=dict)
    """The query of the last authorization."""

    def id_token(self) -> str:
        """The id token of the sign-in that has begun last."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "ada", "iat": now, "exp": now + 300, "sid": "s-1",
            "nonce": self.begun.get("nonce"), "name": "Ada Lovelace", "email": "ada@acme.example", "groups": ["staff"],
            **self.claims,
        }  # fmt: skip
        return self.signed({name: value for name, value in claims.items() if value is not None})

    def logout_token(self, **changed: Any) -> str:
        """A logout token for Ada's sessions."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "ada", "sid": "s-1", "iat": now, "exp": now + 120,
            "jti": uuid4().hex, "events": {"http://schemas.openid.net/event/backchannel-logout": {}}, **changed,
        }  # fmt: skip
        return self.signed({name: value for name, value in claims.items() if value is not None}, typ="logout+jwt")

    def signed(self, claims: dict[str, Any], typ: str = "JWT") -> str:
        """Claims as a token."""
        if self.sign is not None:
            return self.sign(claims)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid, "typ": typ}, claims, self.key)

    def answer(self, path: str) -> dict[str, Any]:
        """What is at a path."""
        match path:
            case "/.well-known/openid-configuration":
                return {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                    "end_session_endpoint": f"{self.issuer}/end",
                    **self.metadata,
                }
            case "/jwks":
                return {"keys": [key.as_dict(private=False) for key in self.published or [self.key]]}
            case "/token":
                return {"access_token": "access", "token_type": "Bearer", "id_token": self.id_token()}
            case _:
                return self.userinfo


def unsigned(claims: dict[str, Any]) -> str:
    """A token with `alg` none."""
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def signed_with_the_public_key(forger: Forger) -> Callable[[dict[str, Any]], str]:
    """A token that is signed with HS256, and the provider's public key as the shared secret."""
    public = forger.key.as_pem(private=False)

    def sign(claims: dict[str, Any]) -> str:
        signed = f"{_part({'alg': 'HS256', 'kid': forger.key.kid})}.{_part(claims)}"
        return f"{signed}.{_encode(hmac.digest(public, signed.encode(), 'sha256'))}"

    return sign


def _part(of: dict[str, Any]) -> str:
    return _encode(json.dumps(of).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextmanager
def forging() -> Iterator[Forger]:
    """A forger behind a server of its own."""
    forger = Forger()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            forger.asked.append(path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.dumps(forger.answer(path)).encode()
            self.send_response(503 if forger.down else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forger.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield forger
    server.shutdown()
    thread.join()
    server.server_close()


def begin(client: TestClient, forger: Forger | None = None, *, path: str = "/console") -> str:
    """Begin a sign-in; where the browser is sent."""
    answer = client.get("/console/sign-in/provider", params={"next": path})
    assert answer.status_code == 303, answer.text
    if forger is not None:
        forger.begun = {
            name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()
        }
    return str(answer.headers["location"])


def come_back(client: TestClient, forger: Forger, **changed: str) -> httpx2.Response:
    """The browser's way back from the forger."""
    query = {"code": "code", "state": forger.begun["state"], **changed}
    return client.get("/console/sign-in/callback", params={name: value for name, value in query.items() if value})


def sign_in_at(client: TestClient, forger: Forger, **claims: Any) -> httpx2.Response:
    """A whole sign-in."""
    forger.claims = claims
    begin(client, forger)
    return come_back(client, forger)


@contextmanager
def mock_provider() -> Iterator[str]:
    """`oidc-provider-mock`, which accepts any client; its issuer. Ada is one of the staff."""
    ada = {"sub": "ada@acme.example", "name": "Ada Lovelace", "email": "ada@acme.example", "groups": ["staff"]}
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port)]
    with process([*command, "--user-claims", json.dumps(ada)]):
        issuer = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(f"{issuer}/.well-known/openid-configuration"))
        yield issuer


@contextmanager
def certified_provider(service: str) -> Iterator[str]:
    """npm's certified `oidc-provider`; its issuer. Tests skip where it is not installed: npm is no package index."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("no oidc-provider here; to install it: npm ci --prefix tests/provider")
    child = subprocess.Popen(
        [node, "server.mjs", CLIENT, SECRET, service], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline().decode().strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _answers(address: str) -> bool:
    with suppress(httpx2.HTTPError):
        return httpx2.get(address, timeout=PATIENCE).status_code == 200
    return False
