"""HR systems on this machine: their APIs, which answer in the shapes that the vendors publish."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class HrSystem:
    """What the APIs answer about a person, by their id."""

    url: str = ""
    records: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    """Method, path, headers and body of each request."""

    def answer(self, path: str, body: str) -> Any:
        """The document of an answer. Shapes: https://apidocs.hibob.com/reference/post_people-search,
        https://developer.personio.de/reference/get_v2-persons-person-id-employments,
        https://github.com/Finch-API/finch-api-python (`types/hris/employment_data_response.py`).
        """
        if path == "/v1/people/search":
            wanted = json.loads(body)["filters"][0]["values"]
            return {"employees": [self.records[one] for one in wanted if one in self.records]}
        if path == "/v2/auth/token":
            return {"access_token": "papi-token", "token_type": "Bearer", "expires_in": 86400}
        if path.startswith("/v2/persons/"):
            person = unquote(path.split("/")[3])
            return {"_data": self.records.get(person, []), "_meta": {"links": {"self": {"href": "x"}}}}
        (wanted,) = json.loads(body)["requests"]
        person = wanted["individual_id"]
        return {"responses": [{"individual_id": person, "code": 200, "body": self.records[person]}]}


@contextmanager
def hr_system() -> Iterator[HrSystem]:
    """An HR system on a free port."""
    system = HrSystem()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            system.asked.append((self.command, self.path, headers, body))
            content = (
                json.dumps(system.answer(urlsplit(self.path).path, body)).encode() if system.status == 200 else b""
            )
            self.send_response(system.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the name that the server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    system.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield system
    finally:
        server.shutdown()
        server.server_close()
