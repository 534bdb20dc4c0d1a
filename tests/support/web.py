"""The service behind a real server, for streams and browsers, and HR systems that call it, signed as they sign."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from sqlalchemy import text
from standardwebhooks import Webhook
from starlette.testclient import TestClient

from tests.world import apply_inbox, eventually
from worker.config import Settings
from worker.database import Database
from worker.people import hr_sources
from worker.queue.broker import make_broker
from worker.web.app import make_app
from worker.web.server import Server


@contextmanager
def serving(db: Database, settings: Settings, *, port: int = 0) -> Iterator[str]:
    """The service behind uvicorn, on a free port if none is given; its address."""
    app = make_app(db, make_broker(settings.broker_url.get_secret_value()), settings)
    server = Server(app, settings.model_copy(update={"port": port}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        app.state.watchers.stop()
        server.should_exit = True
        thread.join()


_DOCUMENT: dict[str, Any] = {}


def with_one_document(app: FastAPI) -> FastAPI:
    """Let all applications of a process show one OpenAPI document: it is made of the code alone, in half a second."""
    generate = app.openapi

    def shown() -> dict[str, Any]:
        if not _DOCUMENT:
            _DOCUMENT.update(generate())
        return _DOCUMENT

    app.openapi = shown  # type: ignore[method-assign] # FastAPI's own way to extend the document
    return app


def event(
    external_id: str = "anna", kind: str = "deactivated", timestamp: str = "2026-03-01T08:00:00Z", **data: Any
) -> dict[str, Any]:
    """The body of an event."""
    return {"type": f"user.{kind}", "timestamp": timestamp, "data": {"external_id": external_id, **data}}


def signed(secret: str, body: bytes, *, key: str | None = None, at: float | None = None) -> dict[str, str]:
    """The headers of a body, as a sender that follows Standard Webhooks makes them."""
    at = time.time() if at is None else at
    key = key or f"msg_{uuid4().hex}"
    return {
        "content-type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": Webhook(secret).sign(key, datetime.fromtimestamp(int(at), UTC), body.decode()),
    }


@dataclass(frozen=True)
class Hr:
    """An HR system with a source of its own."""

    client: TestClient
    name: str
    secret: str

    def send(self, body: Any, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send a body (bytes as they are, all else as JSON), signed now; `headers` replace what is sent with it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**signed(self.secret, raw, key=key), **(headers or {})}
        return self.client.post(f"/hooks/hr/{self.name}", content=raw, headers=sent)

    def applied(self, body: Any, *, key: str | None = None) -> tuple[str, int | None]:
        """Send a body and apply the inbox; what became of the event, and its job."""
        answer = self.send(body, key=key)
        assert answer.status_code in (200, 202), answer.text
        apply_inbox_of(self.client)
        receipt = show_receipt(self.client, int(answer.json()["receipt_id"]))
        return str(receipt.status), receipt.job_id


def apply_inbox_of(client: TestClient) -> None:
    """Apply the events that wait in the database of an application."""
    services = client.app.state.services  # type: ignore[attr-defined]
    apply_inbox(services.database, services.settings)


def show_receipt(client: TestClient, receipt_id: int) -> Any:
    """A receipt's row."""
    with client.app.state.services.database.begin() as connection:  # type: ignore[attr-defined]
        statement = text("SELECT status, job_id, waiting FROM withdrawals.receipts WHERE id = :id")
        return connection.execute(statement, {"id": receipt_id}).one()


MakeHr = Callable[..., Hr]


def make_source(
    db: Database, settings: Settings, organisation_id: int, name: str, kind: str = "standard", **more: Any
) -> str:
    """A source; its secret."""
    made = hr_sources.create(
        db, settings, organisation_id=organisation_id, name=name, kind=kind, actor="test:approver", **more
    )
    return made.secret
