"""The application over this test's database, and what sends files to it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.world import World
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.web.app import make_app

Send = Callable[..., Any]


@pytest.fixture
def client(db: Database, environment: Settings) -> Iterator[TestClient]:
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def bearer(db: Database, world: World) -> Callable[..., dict[str, str]]:
    """Headers of a new token: `bearer("producer")`."""

    def make(role: str, *, organisation_id: int | None = None) -> dict[str, str]:
        made = tokens.create(
            db,
            organisation_id=organisation_id or world.organisation_id,
            name=f"{role}-{uuid4().hex[:8]}",
            role=role,
            actor="test:approver",
        )
        return {"Authorization": f"Bearer {made.secret}"}

    return make


@pytest.fixture
def headers(bearer: Callable[..., dict[str, str]]) -> dict[str, str]:
    """Of the token that `send` uses."""
    return bearer("producer")


@pytest.fixture
def send(client: TestClient, headers: dict[str, str]) -> Send:
    """Send a file: `send("/file/plan", b"…", batch=7)`; None in place of the content sends no file."""

    def sending(
        path: str,
        content: bytes | None,
        *,
        name: str = "leavers.csv",
        key: str | None = None,
        who: Any = None,
        **fields: Any,
    ) -> Any:
        fields = {"reason": "not_required", **fields}
        files = {"file": (name, content)} if content is not None else {"other": ("", b"")}
        if content is None:  # a form without a file is multipart all the same
            files = {field: (None, str(value)) for field, value in fields.items()}  # type: ignore[misc]
            fields = {}
        sent = {**(who or headers), "Idempotency-Key": key or uuid4().hex}
        return client.post(f"/v1/jobs{path}", headers=sent, data=fields, files=files)

    return sending
