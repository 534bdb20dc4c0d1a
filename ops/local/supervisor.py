"""The Procfile's processes on one machine: start them, restart those that end, stop them in order.

A worker that is killed starts again, as it would under systemd or Kubernetes.
"""

import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ops.local import python
from worker.errors import SettingsError

_CHECK_SECONDS = 0.5
_STOP_SECONDS = 30.0
_PROCFILE_LINE = re.compile(r"(?P<name>[\w-]+):\s*(?P<command>\S.*)")


class Supervisor:
    """Runs named commands as child processes until its block ends; also ends them when this process is killed."""

    def __init__(
        self,
        commands: Mapping[str, list[str]],
        environment: Mapping[str, str] | None = None,
        *,
        output: Path | None = None,
        inherited: Sequence[int] = (),
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        """`environment` is added to this process's own; `output` is the file that the children print to.

        Without `output` they print to this process's own streams. `inherited`: file descriptors that they get, under
        the same numbers. `stop_seconds`: how long they may take to end.
        """
        self._commands = dict(commands)
        self._environment = python.environment(environment)
        self._output = output.open("ab") if output else None
        self._inherited, self._stop_seconds = inherited, stop_seconds
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
        deadline = time.monotonic() + self._stop_seconds
        for child in self._children.values():
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._output:
            self._output.close()

    def pid(self, name: str) -> int:
        """The process id of a child; it changes when the child is restarted."""
        return self._children[name].pid

    def _start(self, name: str) -> None:
        # In a session of its own: Ctrl-C in the terminal reaches only the supervisor, which stops all in order.
        self._children[name] = subprocess.Popen(
            _supervised(self._commands[name]),
            env=self._environment,
            start_new_session=True,
            stdout=self._output,
            stderr=self._output,
            pass_fds=self._inherited,
        )

    def _keep(self) -> None:
        while not self._stopping.wait(_CHECK_SECONDS):
            for name, child in list(self._children.items()):
                code = child.poll()
                if code is not None and not self._stopping.is_set():
                    print(f"{name} ended (exit code {code}); starting it again", file=sys.stderr, flush=True)
                    self._start(name)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)


def procfile_commands() -> dict[str, list[str]]:
    """The commands of the project's Procfile by name; `withdrawals` in them is this installation of the program.

    Raises:
        SettingsError: the Procfile is missing, or a line of it is malformed.
    """
    path = python.ROOT / "Procfile"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    return {name: _command(words) for name, words in parse_procfile(text).items()}


def parse_procfile(text: str) -> dict[str, list[str]]:
    """The commands of a Procfile by name, as words. Blank lines and lines that begin with # are ignored.

    Raises:
        SettingsError: a line is not `name: command`, repeats a name, or has an unclosed quote; names the line.
    """
    commands: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _PROCFILE_LINE.fullmatch(line.strip())
        if found is None:
            raise SettingsError(f"Procfile, line {number}: expected `name: command`, found {line!r}")
        if found["name"] in commands:
            raise SettingsError(f"Procfile, line {number}: the name {found['name']!r} is used twice")
        try:
            commands[found["name"]] = shlex.split(found["command"])
        except ValueError as error:
            raise SettingsError(f"Procfile, line {number}: {error}") from error
    return commands


def run_procfile(is_up: Callable[[], bool], when_up: Callable[[], None]) -> None:
    """Run every process of the Procfile until this process receives SIGINT or SIGTERM.

    `when_up` is called once, as soon as `is_up`, which is asked again and again.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Supervisor(procfile_commands()):
        while not ended.is_set() and not is_up():
            ended.wait(_CHECK_SECONDS)
        if not ended.is_set():
            when_up()
        ended.wait()


def run_sharing(listening: socket.socket, command: list[str], *, count: int, stop_seconds: float) -> None:
    """Run `count` processes of a program that share a listening socket, until SIGINT or SIGTERM; restart what ends.

    The last argument of each is the number of the socket's file descriptor. A connection that waits to be accepted is
    taken by any of them, so one that ends loses none that it has not begun.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    fd = listening.fileno()
    commands = {f"{command[-2]}-{n}": [*command, str(fd)] for n in range(1, count + 1)}
    with Supervisor(commands, inherited=[fd], stop_seconds=stop_seconds):
        ended.wait()
        listening.close()  # before they are told to end: who connects now is refused, and waits for nobody


def run_until_signalled(command: list[str], environment: Mapping[str, str]) -> int:
    """Run one program, pass SIGTERM and SIGINT on to it as SIGTERM, and return its exit code."""
    child = subprocess.Popen(_supervised(command), env=python.environment(environment))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
    code = child.wait()
    return code if code >= 0 else 128 - code


def _command(words: list[str]) -> list[str]:
    return python.module("ops", *words[1:]) if words[0] == "withdrawals" else words


def _supervised(command: list[str]) -> list[str]:
    return python.module("ops.local.supervised", *command)
