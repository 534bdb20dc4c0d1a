"""Programs, processes, directories and logs: what the embedded servers share.

A process id read from a file proves nothing: the file outlives a SIGKILL, and the system may give the number to
another process. So every id is compared with the command line of its process before it is used or signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_HAS_PROC = Path("/proc/self").exists()
_MAX_LOG_BYTES = 10_000_000


class LocalServerError(Exception):
    """An embedded server cannot be used; the message says what to do about it."""


class NotRunningError(LocalServerError):
    """An embedded server does not run, and whoever asked may not start it."""


@dataclass(frozen=True)
class Account:
    """The system user that runs PostgreSQL when this process is root, because PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def run_program(
    arguments: Sequence[str | Path], *, account: Account | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `account` if given; output and errors are returned as one text.

    The environment holds only the search paths, so that no secret of the service and no PG* variable reaches a server.

    Raises:
        LocalServerError: the program cannot be run, or did not end within `seconds`.
    """
    paths = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    try:
        return subprocess.run(
            [str(argument) for argument in arguments],
            check=False,
            cwd="/",  # the account may have no access to the current directory
            env=paths | {"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalServerError(f"{arguments[0]} did not finish within {seconds:.0f} s.") from error
    except OSError as error:
        who = f" as {account.name}" if account else ""
        raise LocalServerError(f"{arguments[0]} cannot be run{who}: {error}") from error


def command_line(pid: int) -> str:
    """The command line of a running process; empty when the process has ended or is a zombie."""
    if _HAS_PROC:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return line.replace(b"\0", b" ").decode(errors="replace").strip()
    return run_program(["ps", "-ww", "-o", "command=", "-p", str(pid)]).stdout.strip()


def read_pid(path: Path) -> int | None:
    """The process id in the first line of a file; None without a file or a number."""
    try:
        return int(path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def wait_until(probe: Callable[[], bool], *, seconds: float) -> bool:
    """Call `probe` every 10 ms until it returns True; False when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def end_process(pid: int, steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send the signals one after the other, each with its seconds to take effect, until the process has ended.

    Raises:
        LocalServerError: the process belongs to another user, or still runs after the last signal.
    """
    for number, seconds in steps:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise LocalServerError(f"Process {pid} ({command_line(pid)}) belongs to another user.") from error
        if wait_until(lambda: not command_line(pid), seconds=seconds):
            return
    raise LocalServerError(f"Process {pid} ({command_line(pid)}) does not end; end it by hand.")


def make_private_directory(directory: Path, account: Account | None) -> None:
    """Make a directory that only `account`, or without one this user, can enter; an existing one must be theirs.

    Its parent may be open to everybody (`/tmp`).

    Raises:
        LocalServerError: another user made the directory, and could read or replace what is put there.
    """
    owner = account.uid if account else os.geteuid()
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = directory.lstat()
        if directory.is_symlink() or not directory.is_dir() or found.st_uid not in {owner, os.geteuid()}:
            raise LocalServerError(
                f"{directory} exists and belongs to another user; remove it, or set DATABASE_URL and BROKER_URL."
            ) from None
    directory.chmod(0o700)
    if account:
        os.chown(directory, account.uid, account.gid)


def change_owner(path: Path, account: Account | None) -> None:
    """Give `path` and everything below it to `account`; without an account nothing changes."""
    if account is None:
        return
    for found in (path, *path.rglob("*")):
        if found.lstat().st_uid != account.uid:
            os.chown(found, account.uid, account.gid, follow_symlinks=False)


def trim_log(log: Path) -> int:
    """Delete a log that is larger than 10 MB; returns the log's size in bytes, 0 without a log."""
    size = log.stat().st_size if log.exists() else 0
    if size > _MAX_LOG_BYTES:
        log.unlink()
        return 0
    return size


def read_log_end(log: Path, *, since: int = 0, lines: int = 12) -> str:
    """The last lines that were written to a log after byte `since`, for an error message."""
    try:
        text = log.read_bytes()[since:].decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
