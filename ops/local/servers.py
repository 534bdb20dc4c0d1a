"""PostgreSQL and Redis for a machine that has neither: used when DATABASE_URL or BROKER_URL is unset.

They start with the first process that uses them and stop with the last one. Every process that uses them holds a
shared lock on `users.lock`, which the kernel releases however the process ends. Starting and stopping need an
exclusive lock on `start.lock`, so that no process begins to use the servers while the last one stops them.
"""

import fcntl
import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from ops.local.postgres import Postgres, state_id
from ops.local.process import Account, LocalServerError, NotRunningError, make_private_directory, wait_until
from ops.local.redis import Redis

__all__ = ["LocalServerError", "LocalServers", "NotRunningError", "default_state_dir", "is_embedded"]

_LOCK_SECONDS = 180.0
_CHECK_SECONDS = 1.0
_SOCKETS = "/tmp"  # noqa: S108 - a socket needs a short path


def is_embedded(url: str) -> bool:
    """Whether a URL leads to an embedded server, of whatever state directory."""
    return f"{_SOCKETS}/wd-" in unquote(url)


def default_state_dir() -> Path:
    """`.local` beside the project's pyproject.toml; of an installed wheel, `.local/withdrawals` in the current folder.

    The folder may be a home directory, whose `.local` belongs to many programs.
    """
    root = Path(__file__).resolve().parents[2]
    return root / ".local" if (root / "pyproject.toml").is_file() else Path.cwd() / ".local" / "withdrawals"


class LocalServers:
    """The embedded servers of one state directory; a context manager for any number of processes at once.

    Entering starts the requested servers unless they run; leaving stops both when no other process uses them.
    After a process is killed, its servers run on until another process uses and leaves them.

    Raises:
        LocalServerError: a program is missing, or a server does not start.
        NotRunningError: a requested server does not run, and `start` is false.
    """

    def __init__(self, state_dir: Path, *, postgres: bool = True, redis: bool = True, start: bool = True) -> None:
        """`start`: whether to start a server that does not run; without, nothing is made on disk either."""
        self.state_dir = state_dir.resolve()
        self._may_start = start
        self.socket_dir = Path(_SOCKETS) / f"wd-{state_id(self.state_dir)}"
        self._account = _server_account(self.state_dir)
        self.postgres = Postgres(self.state_dir, self.socket_dir, self._account)
        self.redis = Redis(self.state_dir, self.socket_dir)
        self._wants_postgres, self._wants_redis = postgres, redis
        self._users: int | None = None

    @property
    def database_url(self) -> str:
        """`postgresql://…`, for libpq and SQLAlchemy alike."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """`unix://…`, for redis-py."""
        return self.redis.url

    def __enter__(self) -> Self:
        if not self._may_start and not self.state_dir.is_dir():
            raise NotRunningError(f"No embedded servers run in {self.state_dir}.")
        self._prepare_state()
        try:
            with self.start_lock():
                self._require_running()
                make_private_directory(self.socket_dir, self._account)
                self._users = self._open("users.lock")
                fcntl.flock(self._users, fcntl.LOCK_SH)  # never waits: LOCK_EX is taken only under start.lock
                if self._wants_postgres:
                    self.postgres.start()
                if self._wants_redis:
                    self.redis.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _require_running(self) -> None:
        if self._may_start:
            return
        if (self._wants_postgres and not self.postgres.pid()) or (self._wants_redis and not self.redis.pid()):
            raise NotRunningError(f"No embedded servers run in {self.state_dir}.")

    @contextmanager
    def kept_running(self) -> Iterator[None]:
        """Start a server again when it ends unexpectedly, as a service manager would."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="local servers", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(_CHECK_SECONDS):
            with suppress(LocalServerError, OSError):  # the next check tries again
                if self._wants_postgres and self.postgres.pid() is None:
                    with self.start_lock():
                        self.postgres.start()
                if self._wants_redis and self.redis.pid() is None:
                    with self.start_lock():
                        self.redis.start()

    @contextmanager
    def start_lock(self) -> Iterator[None]:
        """Keep every other process from starting or stopping these servers; waits up to 180 s for the lock."""
        lock = self._open("start.lock")
        try:
            if not wait_until(lambda: _try_exclusive(lock), seconds=_LOCK_SECONDS):
                raise LocalServerError(
                    f"Another process has been starting or stopping the servers for {_LOCK_SECONDS:.0f} s; "
                    f"find it with `fuser {self.state_dir / 'start.lock'}` and end it."
                )
            yield
        finally:
            os.close(lock)

    def _leave(self) -> None:
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            if not self.state_dir.exists():  # it was deleted while the servers ran
                self._stop()
                return
            with self.start_lock():
                if self._is_last_user(users):
                    self._stop()
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)  # a forked child shares this lock and must not keep it
            os.close(users)

    def _is_last_user(self, users: int) -> bool:
        # Under start.lock no other process can begin to use the servers after this answer.
        with suppress(FileNotFoundError):
            same = os.path.samestat(os.fstat(users), (self.state_dir / "users.lock").stat())
            return same and _try_exclusive(users)
        return False

    def _stop(self) -> None:
        try:
            self.redis.stop()
        finally:
            self.postgres.stop()
        with suppress(FileNotFoundError):
            self.socket_dir.rmdir()

    def _prepare_state(self) -> None:
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.state_dir.stat().st_uid != os.geteuid():
                return
            # The account may pass through to its own directory, but cannot list this one.
            if self._account:
                os.chown(self.state_dir, -1, self._account.gid)
            self.state_dir.chmod(0o710 if self._account else 0o700)
        except OSError as error:
            raise LocalServerError(f"{self.state_dir} cannot be used for the embedded servers: {error}") from error

    def _open(self, name: str) -> int:
        # Child processes do not inherit the file (PEP 446), so a server never holds the lock of its starter.
        try:
            return os.open(self.state_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalServerError(f"{self.state_dir} cannot be used for the embedded servers: {error}") from error


def _try_exclusive(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _server_account(state: Path) -> Account | None:
    # The owner of the existing cluster, else the user that operating systems create for PostgreSQL, else `nobody`.
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        found = (state / "postgres").stat()
        if found.st_uid != 0:
            return Account(f"user {found.st_uid}", found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise LocalServerError(
        "PostgreSQL does not run as root, and the system has neither a user `postgres` nor `nobody` to run it. "
        "Use an ordinary user, or set DATABASE_URL."
    )
