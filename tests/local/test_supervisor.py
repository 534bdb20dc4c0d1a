"""The supervisor: what it reads from a Procfile, and that it restarts what ends."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local import supervisor
from ops.local.process import command_line, wait_until
from ops.local.supervisor import Supervisor, parse_procfile, procfile_commands
from tests.world import PATIENCE
from worker.errors import SettingsError


def test_a_procfile_names_one_command_a_line() -> None:
    text = "# comment\n\nweb: withdrawals web\n  mail-2:sh -c 'echo \"a b\"'\n"
    assert parse_procfile(text) == {"web": ["withdrawals", "web"], "mail-2": ["sh", "-c", 'echo "a b"']}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("withdrawals worker", "expected `name: command`, found 'withdrawals worker'"),
        ("worker:", "expected `name: command`"),
        ("web: withdrawals worker", "the name 'web' is used twice"),
        ("worker: sh -c 'exit", "No closing quotation"),
    ],
)
def test_a_malformed_line_of_a_procfile_is_named(line: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"^Procfile, line 2: {complaint}"):
        parse_procfile(f"web: withdrawals web\n{line}\n")


def test_the_procfile_runs_this_installation() -> None:
    commands = procfile_commands()
    assert set(commands) == {"web", "worker", "relay"}
    assert all(command == [sys.executable, "-P", "-m", "ops", name] for name, command in commands.items())


@pytest.fixture
def quiet_procfile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Procfile of a process that does nothing; signals are afterwards taken as before."""
    monkeypatch.setattr(supervisor, "procfile_commands", lambda: {"child": ["sleep", "600"]})
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("quiet_procfile")
def test_who_waits_for_the_processes_is_told_once_they_are_up() -> None:
    asked, told = [False, False, True], list[int]()

    def when_up() -> None:
        told.append(len(asked))
        os.kill(os.getpid(), signal.SIGTERM)

    supervisor.run_procfile(lambda: asked.pop(0), when_up)
    assert told == [0]


@pytest.mark.usefixtures("quiet_procfile")
def test_processes_that_never_come_up_are_ended_by_a_signal_as_well() -> None:
    def is_up() -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    supervisor.run_procfile(is_up, lambda: pytest.fail("it is not up"))


def test_a_child_that_is_killed_starts_again_and_ends_with_the_supervisor(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Supervisor({"child": ["sleep", "600"]}, output=tmp_path / "log") as supervisor:
        first = supervisor.pid("child")
        assert wait_until(lambda: command_line(first) == "sleep 600", seconds=PATIENCE)
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: supervisor.pid("child") != first, seconds=PATIENCE)
        second = supervisor.pid("child")
    assert not command_line(second)
    assert f"child ended (exit code -{signal.SIGKILL.value})" in capfd.readouterr().err
