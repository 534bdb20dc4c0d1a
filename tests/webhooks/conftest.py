"""A help desk on this machine that receives webhooks."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.world import PATIENCE
from worker.config import Settings
from worker.webhooks import safe_call, safe_post


class Receiver:
    """A help desk on this machine: keeps what it gets, and answers what the test wants."""

    def __init__(self) -> None:
        self.status = 204
        self.headers: dict[str, str] = {}
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks?desk=1"

    @property
    def events(self) -> list[Any]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """It is waited for, also on a busy machine."""
    for calls in (safe_post, safe_call):
        monkeypatch.setattr(calls, "SECONDS", PATIENCE)
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def local(environment: Settings) -> Settings:
    """Private addresses are allowed."""
    return environment.model_copy(update={"webhooks_allow_private": True})
