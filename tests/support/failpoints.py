"""Failpoints: stop, break or kill the service between any two of its statements. Production has no code for it.

`install` replaces the four calls by which SQLAlchemy reaches PostgreSQL, in this process, by calls that look whether
something was armed. The names come from the call stack, so a new statement has failpoints at once:

- `claims.claim:before`, `claims.claim:after`: a statement or a COPY, named after the public function of the ledger
- `drain.decide:commit:before`, `drain.decide:commit:after`: a commit, named after the function whose transaction it is

An action that raises does so where the driver would, so that SQLAlchemy wraps it as it would the driver's own error. In
child processes `tests/support/failpoint_site` does the same by environment variables; see `environment`.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.default import DefaultDialect

SITE = Path(__file__).parent / "failpoint_site"
WAIT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Point:
    """A failpoint that a thread has reached."""

    name: str
    connection: Any
    """The psycopg connection."""

    @property
    def before(self) -> bool:
        return self.name.endswith(":before")


Action = Callable[[Point], None]


@dataclass(slots=True)
class Armed:
    """An action that waits for its failpoint."""

    name: str
    """`*` is any failpoint."""
    action: Action
    nth: int
    """It acts when the failpoint is reached for the nth time, once."""
    passed: int = 0
    fired: threading.Event = field(default_factory=threading.Event)


_lock = threading.Lock()
_armed: list[Armed] = []
_seen: list[str] = []
_record: list[Callable[[str], None]] = []
_originals: dict[tuple[type, str], Any] = {}


# What a test does


def arm(name: str, action: Action, nth: int = 1) -> Armed:
    """Let `action` happen when the failpoint of that name is reached for the nth time from now on."""
    install()
    armed_now = Armed(name, action, nth)
    with _lock:
        _armed.append(armed_now)
    return armed_now


def disarm(*which: Armed) -> None:
    """Take these back (none given: all)."""
    with _lock:
        _armed[:] = [other for other in _armed if which and not any(other is one for one in which)]


@contextmanager
def armed(name: str, action: Action, nth: int = 1) -> Iterator[Armed]:
    """`arm` for a block; the block itself looks at `fired`."""
    one = arm(name, action, nth)
    try:
        yield one
    finally:
        disarm(one)


@contextmanager
def recording() -> Iterator[list[str]]:
    """The names of all failpoints that the block passes, in order."""
    install()
    names: list[str] = []
    with _lock:
        _seen.clear()
        _record.extend([names.append, _seen.append])
    try:
        yield names
    finally:
        with _lock:
            _record.remove(names.append)
            _record.remove(_seen.append)


def names_seen() -> list[str]:
    """The names that the last recording has collected so far."""
    with _lock:
        return list(_seen)


def environment(name: str, action: str, *, fired: Path, nth: int = 1, record: Path | None = None) -> dict[str, str]:
    """Variables that arm a failpoint in child processes, once for all of them together.

    `action`: a name of `ACTIONS`. `fired`: a file that does not exist and is made when it acts, with the process's id
    in it. `nth` is counted in each process. `record`: a file to which every process appends the names that it passes.
    """
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {"PYTHONPATH": os.pathsep.join(paths)}
    if name:
        found |= {
            "FAILPOINT": name,
            "FAILPOINT_ACTION": action,
            "FAILPOINT_NTH": str(nth),
            "FAILPOINT_FIRED": str(fired),
        }
    return found | ({"FAILPOINT_RECORD": str(record)} if record else {})


# Actions


def raises(make: Callable[[], BaseException]) -> Action:
    """Raise a new error each time, as if the driver had."""

    def action(point: Point) -> None:
        raise make()

    return action


def lose_connection(point: Point) -> None:
    """Cut the connection. Before a statement or a commit it never arrives; after it, its answer is lost."""
    with socket.socket(fileno=os.dup(point.connection.fileno())) as cut:
        cut.shutdown(socket.SHUT_RDWR)
    if not point.before:
        point.connection.execute("SELECT 1")


def terminate_backend(point: Point) -> None:
    """Let the server end the session, as an administrator or a failover does."""
    info = point.connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        other.execute("SET ROLE NONE")  # as the login, which may; the service's role may not
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [info.backend_pid])
    if not point.before:
        point.connection.execute("SELECT 1")


def kill(point: Point) -> None:
    """SIGKILL this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(point: Point) -> None:
    """SIGSTOP this process; somebody else continues or kills it."""
    os.kill(os.getpid(), signal.SIGSTOP)


def pause(barrier: threading.Barrier) -> Action:
    """Wait twice on a barrier: the others know that the failpoint is reached, and say when to go on."""

    def action(point: Point) -> None:
        barrier.wait(WAIT_SECONDS)
        barrier.wait(WAIT_SECONDS)

    return action


serialization_failure = raises(lambda: psycopg.errors.SerializationFailure("failpoint"))
deadlock = raises(lambda: psycopg.errors.DeadlockDetected("failpoint"))
row_error = raises(lambda: psycopg.errors.CheckViolation("failpoint"))
statement_timeout = raises(lambda: psycopg.errors.QueryCanceled("failpoint"))
bug = raises(lambda: RuntimeError("failpoint"))

ACTIONS: Mapping[str, Action] = {
    "kill": kill,
    "stop": stop,
    "lose_connection": lose_connection,
    "terminate_backend": terminate_backend,
    "serialization_failure": serialization_failure,
    "deadlock": deadlock,
    "row_error": row_error,
    "statement_timeout": statement_timeout,
    "bug": bug,
}
"""What `FAILPOINT_ACTION` can be."""


# How it works


def install() -> None:
    """Put the failpoints between SQLAlchemy and the driver, for the whole process."""
    with _lock:
        if _originals:
            return
        _replace(PGDialect_psycopg, "do_execute", _statement)
        _replace(PGDialect_psycopg, "do_executemany", _statement)
        _replace(PGDialect_psycopg, "do_commit", _commit)
        _replace(psycopg.Cursor, "copy", _copy)


def uninstall() -> None:
    """Put the original calls back; nothing is armed or recorded any more."""
    with _lock:
        for (owner, name), original in _originals.items():
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        _originals.clear()
        _armed.clear()
        _record.clear()


def install_from_environment(variables: Mapping[str, str]) -> None:
    """What a child process does at its start; see `environment`."""
    path, name = variables.get("FAILPOINT_RECORD"), variables.get("FAILPOINT")
    if path:
        install()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _record.append(lambda passed: (os.write(file, f"{passed}\n".encode()), None)[1])
    if name:
        action, fired = ACTIONS[variables["FAILPOINT_ACTION"]], Path(variables["FAILPOINT_FIRED"])
        arm(name, _once(action, fired), int(variables.get("FAILPOINT_NTH", "1")))


def _once(action: Action, fired: Path) -> Action:
    """Of all processes the one that makes the file acts: a process that is started again is not killed again."""

    def act(point: Point) -> None:
        with suppress(FileExistsError):
            with fired.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
            action(point)

    return act


def _replace(owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    _originals[owner, name] = owner.__dict__.get(name)
    setattr(owner, name, wrap(getattr(owner, name)))


def _statement(execute: Callable[..., Any]) -> Callable[..., Any]:
    def do_execute(dialect: DefaultDialect, cursor: Any, *arguments: Any, **named: Any) -> None:
        with _around(_statement_name(), cursor.connection):
            execute(dialect, cursor, *arguments, **named)

    return do_execute


def _commit(commit: Callable[..., Any]) -> Callable[..., Any]:
    def do_commit(dialect: DefaultDialect, connection: Any) -> None:
        with _around(_commit_name(), connection.driver_connection):
            commit(dialect, connection)

    return do_commit


def _copy(copy: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
    @contextmanager
    def copying(cursor: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
        with _around(_statement_name(), cursor.connection), copy(cursor, *arguments, **named) as inner:
            yield inner

    return copying


@contextmanager
def _around(name: str | None, connection: Any) -> Iterator[None]:
    if name:
        _reach(Point(f"{name}:before", connection))
    yield
    if name:
        _reach(Point(f"{name}:after", connection))


def _reach(point: Point) -> None:
    firing = []
    with _lock:
        for record in _record:
            record(point.name)
        for one in _armed:
            if one.name in ("*", point.name) and not one.fired.is_set():
                one.passed += 1
                if one.passed == one.nth:
                    one.fired.set()
                    firing.append(one)
    for one in firing:
        one.action(point)


_BELOW = ("worker.database", "worker.notifier", "worker.one_message")
"""What every statement passes. A notification has no failpoint: to die before it is to die after the commit."""


def _statement_name() -> str | None:
    """The innermost public function of the ledger on the stack, else the innermost function of the service."""
    fallback = None
    for module, function in _stack():
        if module.startswith("worker.ledger."):
            if not function.startswith(("_", "<")):
                return f"{_last(module)}.{function}"
            fallback = fallback or f"{_last(module)}.{function.lstrip('_')}"
        elif fallback:
            return fallback
        elif module.startswith("worker.") and module not in _BELOW and not function.startswith("<"):
            return f"{_last(module)}.{function.lstrip('_')}"
    return fallback


def _commit_name() -> str | None:
    """The function that called `Database.run` or `begin`."""
    of_service = False
    for module, function in _stack():
        if module == "worker.database":
            of_service = of_service or function == "run"  # the platform of a test uses `begin` alone
        elif not function.startswith("<") and (
            module.startswith("worker.") or (of_service and not module.startswith(("tenacity", "contextlib")))
        ):
            return f"{_last(module)}.{function.lstrip('_')}:commit"
    return None


def _stack() -> Iterator[tuple[str, str]]:
    """Module and function of each frame, the innermost first, without this module's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != __name__:
            yield module, frame.f_code.co_name
        frame = frame.f_back


def _last(module: str) -> str:
    return module.rpartition(".")[2]
