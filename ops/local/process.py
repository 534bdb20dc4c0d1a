"""What the embedded servers share: running a program as the right user, and telling whether a process lives.

A process id read from a file proves nothing: after SIGKILL the file stays, and the system may give the number
to a stranger. So every id is checked against the command it belongs to before it is believed or signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self").exists()


class LocalServerError(Exception):
    """An embedded server cannot be used; the message says what to do about it."""


@dataclass(frozen=True)
class Account:
    """The plain user that runs PostgreSQL on behalf of root, for PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def run(
    arguments: Sequence[str | Path], *, account: Account | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `account` when there is one; output and errors come back as one text.

    The environment is bare, so that neither the service's secrets nor PG* settings reach a server.
    """
    bare = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    try:
        return subprocess.run(
            [str(argument) for argument in arguments],
            check=False,
            cwd="/",  # the account may be unable to enter ours
            env=bare | {"LC_ALL": "C", "TZ": "UTC"},
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


def command(pid: int) -> str:
    """The command line of a running process; empty when it is gone or a zombie."""
    if _PROC:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return line.replace(b"\0", b" ").decode(errors="replace").strip()
    return run(["ps", "-ww", "-o", "command=", "-p", str(pid)]).stdout.strip()


def read_pid(path: Path) -> int | None:
    """The process id in the first line of a file, or None where there is none."""
    try:
        return int(path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def wait_until(probe: Callable[[], bool], *, seconds: float) -> bool:
    """Poll until the probe holds; False when it did not within the time."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def end(pid: int, steps: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send one signal after the other, each with its seconds to work, until the process is gone.

    Raises LocalServerError when it outlives them all.
    """
    for number, seconds in steps:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise LocalServerError(f"Process {pid} ({command(pid)}) belongs to another user.") from error
        if wait_until(lambda: not command(pid), seconds=seconds):
            return
    raise LocalServerError(f"Process {pid} ({command(pid)}) does not end; end it by hand.")


def claim(directory: Path, account: Account | None) -> None:
    """Make a private directory in a place open to all, or check that the one there is ours.

    Raises LocalServerError when somebody else made it: they could read or replace what is put there.
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


def hand_over(path: Path, account: Account | None) -> None:
    """Make `path` and all below it the account's; nothing to do when we are the plain user ourselves."""
    if account is None:
        return
    for found in (path, *path.rglob("*")):
        if found.lstat().st_uid != account.uid:
            os.chown(found, account.uid, account.gid, follow_symlinks=False)


def tail(log: Path, *, since: int = 0, lines: int = 12) -> str:
    """The last lines that were written to a log after byte `since`, for an error message."""
    try:
        text = log.read_bytes()[since:].decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def size(log: Path) -> int:
    """Bytes in a log; 0 where there is none. One that grew beyond 10 MB starts anew."""
    found = log.stat().st_size if log.exists() else 0
    if found > 10_000_000:
        log.unlink()
        return 0
    return found
