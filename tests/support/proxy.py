"""A proxy before PostgreSQL: it follows the primary, and can cut a connection around a commit."""

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import sqlalchemy

_COMMITS = (b"COMMIT\x00", b"; EXECUTE ")
"""What a message has in it that commits: the end of a transaction, or several statements that are one (record 0057)."""
_BYTES = 65_536


class Proxy:
    """Listens on a port of its own and forwards each connection to a PostgreSQL on a Unix socket; a context manager.

    `cut`: the share of commits at which the connection is cut, half of them before the server has it, half
    after its answer, which the client does not get.
    """

    def __init__(self, sockets: Path, *, cut: float = 0.0, random: Random | None = None) -> None:
        self.target = sockets / ".s.PGSQL.5432"
        self.cut = cut
        self.cuts = 0
        self._random = random or Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut_all()

    def url(self, database_url: str) -> str:
        """The same database through this proxy."""
        url = sqlalchemy.make_url(database_url)
        query = {"sslmode": "disable", "gssencmode": "disable"}
        through = url.set(host="127.0.0.1", port=self._listener.getsockname()[1], query=query)
        return through.render_as_string(hide_password=False)

    def follow(self, sockets: Path) -> None:
        """Forward new connections to another server, and end those to the old one."""
        self.target = sockets / ".s.PGSQL.5432"
        self.cut_all()

    def cut_all(self) -> None:
        """End every connection."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                server.connect(str(self.target))
                self._forward(client, server)
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if server in ready:
                if not (data := server.recv(_BYTES)):
                    return
                client.sendall(data)
            if client in ready:
                if not (data := client.recv(_BYTES)):
                    return
                if any(commit in data for commit in _COMMITS) and self._is_cut():
                    if self._random.random() < 0.5:
                        server.sendall(data)
                        server.recv(_BYTES)  # the commit has taken place, and its answer ends here
                    return
                server.sendall(data)

    def _is_cut(self) -> bool:
        with self._lock:
            hit = self._random.random() < self.cut
            self.cuts += hit
            return hit
