"""Programs that the walk starts: each with a log of its own, in a session of its own, and ended with the walk."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ops.local.process import Account
from ops.walk.waiting import WalkError


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def program(name: str, package: str) -> str:
    """The path of a program.

    Raises:
        WalkError: it is not on PATH. The message names Debian's package.
    """
    if (found := shutil.which(name)) is None:
        raise WalkError(f"{name} is not on PATH (Debian: apt-get install {package})")
    return found


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    codes: Sequence[int] = (0,),
    text: str | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
) -> str:
    """Run a program to its end; what it printed. `text`: its standard input. `account`: who runs it.

    Raises:
        WalkError: its exit code is another than `codes`. The message has the end of what it said.
    """
    ended = subprocess.run(
        [str(word) for word in command], env=environment, input=text or "", capture_output=True, text=True, check=False,
        cwd=cwd or "/", **_as(account),
    )  # fmt: skip
    if ended.returncode not in codes:
        shown = " ".join(map(str, command[:4]))
        raise WalkError(f"`{shown}` ended with {ended.returncode}:\n{ended.stdout[-1500:]}{ended.stderr[-1500:]}")
    return str(ended.stdout)


class Program:
    """A process that runs beside the walk."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        account: Account | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [str(word) for word in command], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, start_new_session=True, **_as(account),
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 60) -> None:
        """Ask it to end, and wait; kill it if it does not."""
        if self.runs:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it and its children at once (SIGKILL), as a machine does that is out of memory."""
        for pid in _family(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="utf-8").split())
    return found


def _as(account: Account | None) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
