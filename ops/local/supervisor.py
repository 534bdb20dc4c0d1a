"""Runs the Procfile's processes on one machine: starts them, starts again what dies, stops them in order.

honcho's own manager ends everything when one process ends; here a killed worker comes back, as it would under
systemd or Kubernetes.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from honcho.environ import parse_procfile

from ops.cli.common import err

_RESTART_AFTER = 0.5  # seconds
_STOP_WITHIN = 30.0


class Supervisor:
    """Child processes that live as long as this one."""

    def __init__(
        self,
        commands: Mapping[str, list[str]],
        environment: Mapping[str, str] | None = None,
        *,
        output: Path | None = None,
    ) -> None:
        """`output`: a file that takes what the children print; None: this process's own streams."""
        self._commands = dict(commands)
        self._environment = {**os.environ, **(environment or {})}
        self._output = output.open("ab") if output else None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()

    def __enter__(self) -> "Supervisor":
        for name in self._commands:
            self._start(name)
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._keeper.join()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WITHIN
        for child in self._children.values():
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._output:
            self._output.close()

    def pid(self, name: str) -> int:
        """The process id of a child, which changes when it is started again."""
        return self._children[name].pid

    def _start(self, name: str) -> None:
        # Its own session: a Ctrl-C in the terminal reaches the supervisor alone, which then stops in order.
        self._children[name] = subprocess.Popen(
            _supervised(self._commands[name]),
            env=self._environment,
            start_new_session=True,
            stdout=self._output,
            stderr=self._output,
        )

    def _keep(self) -> None:
        while not self._stopping.wait(_RESTART_AFTER):
            for name, child in list(self._children.items()):
                code = child.poll()
                if code is not None and not self._stopping.is_set():
                    err.print(f"{name} ended ({code}); starting it again")
                    self._start(name)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)


def procfile_commands() -> dict[str, list[str]]:
    """The Procfile's processes; `withdrawals` there is this very program."""
    path = Path(__file__).resolve().parents[2] / "Procfile"
    if not path.exists():
        path = Path("Procfile")
    processes = parse_procfile(path.read_text(encoding="utf-8")).processes
    return {name: _command(line) for name, line in processes.items()}


def run_procfile() -> None:
    """Run every process of the Procfile until SIGINT or SIGTERM."""
    ended = _on_signal()
    with Supervisor(procfile_commands()):
        ended.wait()


def run_until_signalled(command: list[str], environment: Mapping[str, str]) -> int:
    """Run one program, pass SIGTERM and SIGINT on to it, and return its exit code."""
    child = subprocess.Popen(_supervised(command), env={**os.environ, **environment})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
    code = child.wait()
    return code if code >= 0 else 128 - code


def _on_signal() -> threading.Event:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    return ended


def _command(line: str) -> list[str]:
    words = line.split()
    return [sys.executable, "-m", "ops", *words[1:]] if words[0] == "withdrawals" else words


def _supervised(command: list[str]) -> list[str]:
    return [sys.executable, "-m", "ops.local.supervised", *command]
