"""A SCIM client of the organisation."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.world import World

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass
class Directory:
    """Okta, Entra ID or any other client, with a token of role `scim`."""

    client: TestClient
    headers: dict[str, str]
    user_id: str = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is None:
            return self.client.request(method, f"/scim/v2{path}", headers=sent)
        content = json.dumps(body).encode()
        return self.client.request(
            method, f"/scim/v2{path}", content=content, headers={"Content-Type": "application/scim+json", **sent}
        )

    def create(self, name: str = "anna@example.org", **more: Any) -> httpx2.Response:
        return self.call("POST", "/Users", {"userName": name, **more})

    def patch(self, user_id: str, *operations: dict[str, Any], **headers: str) -> httpx2.Response:
        return self.call("PATCH", f"/Users/{user_id}", {"Operations": list(operations)}, **headers)

    def play(self, recorded: dict[str, Any]) -> httpx2.Response:
        """Send a recorded request; one without a path is about the user made last."""
        answer = self.call(recorded["method"], recorded.get("path", f"/Users/{self.user_id}"), recorded.get("body"))
        if answer.status_code == 201:
            self.user_id = answer.json()["id"]
        return answer

    def names(self, query: str = "") -> list[str]:
        answer = self.call("GET", f"/Users{query}")
        assert answer.status_code == 200, answer.text
        return [user["userName"] for user in answer.json()["Resources"]]


@pytest.fixture
def scim(client: TestClient, bearer: Callable[..., dict[str, str]]) -> Directory:
    return Directory(client, bearer("scim", name="okta"))


@pytest.fixture
def learner_id(world: World) -> str:
    """A learner that the platform had before, by id."""
    return str(world.learner("anna"))


def recorded(vendor: str) -> dict[str, dict[str, Any]]:
    """What a vendor's client sends, by what it is for."""
    found: dict[str, dict[str, Any]] = json.loads((FIXTURES / f"{vendor}.json").read_text(encoding="utf-8"))
    return found
