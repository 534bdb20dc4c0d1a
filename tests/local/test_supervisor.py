"""The supervisor: what it reads from a Procfile, and that it restarts what ends."""

import os
import signal
import sys
from pathlib import Path

import pytest

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
