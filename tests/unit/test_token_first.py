"""No body is given to an endpoint before its caller is known to have a live token."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from worker.access import tokens
from worker.access.memory import NEEDS_DATABASE
from worker.web.auth import TokenFirst


def test_no_body_is_read_of_a_caller_whose_token_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away: whoever has a word like a token would make the service read and parse megabytes."""
    read: list[Message] = []

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        read.append(await receive())

    async def away(*_: object) -> None:
        raise ConnectionError

    async def body() -> Message:
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    monkeypatch.setattr(tokens, "recall", lambda *_: NEEDS_DATABASE)
    services = SimpleNamespace(door=None, at_the_door=away)
    scope: dict[str, Any] = {
        "type": "http", "path": "/v1/jobs", "headers": [(b"authorization", b"Bearer wdt_x_y")],
        "app": SimpleNamespace(state=SimpleNamespace(services=services)),
    }  # fmt: skip
    asyncio.run(TokenFirst(endpoint, ("/v1/",))(scope, body, None))  # type: ignore[arg-type] # nothing is sent
    assert [(one["body"], one["more_body"]) for one in read] == [(b"", False)]
