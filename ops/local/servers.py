"""PostgreSQL and Redis for a machine that has neither: used when DATABASE_URL or BROKER_URL is unset.

Nobody has to remember to start or stop them. Every process that uses them holds a shared lock on
`users.lock`, which the kernel takes back however the process ends; the last one to leave stops the servers.
Starting and stopping happen under an exclusive lock on `start.lock`, so that nobody enters while the last one
leaves.
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

from ops.local.postgres import Postgres, digest
from ops.local.process import Account, LocalServerError, claim, wait_until
from ops.local.redis import Redis

__all__ = ["LocalServerError", "LocalServers", "default_state_dir"]

_LOCK_SECONDS = 180.0
_LOOK_EVERY = 1.0  # seconds


def default_state_dir() -> Path:
    """`.local` beside the project's pyproject.toml; in the current directory where there is none."""
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / ".local"


class LocalServers:
    """Use the embedded servers of one state directory; a context manager for any number of processes at once.

    Entering starts what is asked for and does not run yet; leaving stops both servers when nobody else uses
    them. A process killed by SIGTERM or SIGKILL leaves them to the next user. Raises LocalServerError when a
    program is missing or a server does not come up.
    """

    def __init__(self, state_dir: Path, *, postgres: bool = True, redis: bool = True) -> None:
        self.state_dir = state_dir.resolve()
        self.socket_dir = Path("/tmp") / f"wd-{digest(self.state_dir)}"  # noqa: S108  sockets need a short path
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
        self._prepare_state()
        try:
            with self.serialised():
                claim(self.socket_dir, self._account)
                self._users = self._open("users.lock")
                fcntl.flock(self._users, fcntl.LOCK_SH)  # at once: LOCK_EX is only tried under start.lock
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

    @contextmanager
    def kept_running(self) -> Iterator[None]:
        """Start a server again that dies meanwhile (a plug was pulled), as a service manager would."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), name="local servers", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_EVERY):
            with suppress(LocalServerError, OSError):  # tried again at the next look
                if self._wants_postgres and self.postgres.pid() is None:
                    with self.serialised():
                        self.postgres.start()
                if self._wants_redis and self.redis.pid() is None:
                    with self.serialised():
                        self.redis.start()

    @contextmanager
    def serialised(self) -> Iterator[None]:
        """Nobody else starts or stops these servers inside; waits for its turn (at most 180 s)."""
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
            if not self.state_dir.exists():  # deleted under the servers, which now serve nothing
                self._stop()
                return
            with self.serialised():
                if self._is_last(users):
                    self._stop()
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)  # for forked children too, which share the lock with us
            os.close(users)

    def _is_last(self, users: int) -> bool:
        # The exclusive lock is only a question: start.lock keeps everybody else from entering meanwhile.
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
            # The server's user may pass through to its own directory, and see nothing else.
            if self._account:
                os.chown(self.state_dir, -1, self._account.gid)
            self.state_dir.chmod(0o710 if self._account else 0o700)
        except OSError as error:
            raise LocalServerError(f"{self.state_dir} cannot be used for the embedded servers: {error}") from error

    def _open(self, name: str) -> int:
        # Python opens without inheritance (PEP 446), so no server keeps a lock that its starter has lost.
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
    # Who owns the cluster already, else the user that systems make for PostgreSQL, else nobody.
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
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as. "
        "Work as a plain user, or set DATABASE_URL."
    )
