"""A receiver of the service's webhooks: it verifies each signature with the secrets that it was given."""

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver:
    """Listens on a port of its own until it is closed."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        """Whoever knows one of them accepts a delivery."""
        self.verified = 0
        self.unknown = 0
        """Deliveries whose signature none of the secrets has made."""
        self.by_secret: dict[str, int] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(204 if receiver.take(body, dict(self.headers.items())) else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def take(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Whether one of the secrets has signed a delivery."""
        lower = {name.lower(): value for name, value in headers.items()}
        known = [secret for secret in self.secrets if _is_genuine(secret, body, lower)]
        for secret in known:
            self.by_secret[secret] = self.by_secret.get(secret, 0) + 1
        self.verified += bool(known)
        self.unknown += not known
        return bool(known)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _is_genuine(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body.decode(), headers)
    except WebhookVerificationError:
        return False
    return True
