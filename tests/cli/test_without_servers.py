"""Commands without a database: none starts one by itself, all say what is missing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ops.demo import run
from ops.local.servers import LocalServers
from tests.support import processes
from tests.support.commandline import Ran, program, refused, withdrawals
from tests.support.scraping import ask, free_port
from tests.world import PATIENCE, eventually

EVERY_COMMAND = [
    ("web",), ("worker",), ("relay",), ("migrate",), ("doctor",), ("check",), ("jobs", "list"), ("explain", "1"),
    ("submit", "1", "--reason", "not_required"), ("tokens", "list"),
]  # fmt: skip


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without any variable of the service but the directory for embedded servers; that directory."""
    for name in list(os.environ):
        if name.startswith(("WITHDRAWALS_", "DATABASE_", "BROKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WITHDRAWALS_LOCAL_DIR", str(tmp_path / "local"))
    return tmp_path / "local"


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_a_command_without_a_database_says_so_and_starts_none(bare: Path, words: tuple[str, ...]) -> None:
    assert "DATABASE_URL: is not set." in refused(*words)
    assert not bare.exists(), "nothing was made"


def test_the_real_program_says_so_and_ends(bare: Path) -> None:
    ran = program("worker")
    assert (ran.code, ran.out) == (2, "")
    assert "DATABASE_URL: is not set." in ran.err
    assert "BROKER_URL: is not set." in ran.err


def test_the_three_processes_also_need_a_broker(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    for name in ("web", "worker", "relay"):
        assert "BROKER_URL: is not set." in refused(name)
    ran = withdrawals("jobs", "list")
    assert ran.code == 1, "a command that needs no broker goes on to the database, which is out of reach"
    assert "BROKER_URL" not in ran.err
    assert not bare.exists()


def test_a_misspelt_variable_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABSE_URL", "postgresql://me:hunter2@db/lms")
    said = refused("worker")
    assert "DATABSE_URL is set: is it misspelt?" in said
    assert "hunter2" not in said


@pytest.fixture
def reachable(bare: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for embedded servers; they are stopped and removed afterwards."""
    directory = tmp_path_factory.mktemp("embedded") / "local"
    monkeypatch.setenv("WITHDRAWALS_LOCAL_DIR", str(directory))
    yield directory
    servers = LocalServers(directory)
    if directory.exists():
        with LocalServers(directory, postgres=False, redis=False):
            pass
        processes.erase(servers)


def _here(*words: str, **environment: str) -> Ran:
    """Run a command in this process, which gets the addresses of the servers that it has found for the while."""
    with mock.patch.dict(os.environ, environment):
        return withdrawals(*words)


def test_commands_use_the_servers_of_a_running_service_but_processes_do_not(
    reachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    said, printed = tmp_path / "stderr", tmp_path / "stdout"
    with said.open("wb") as stderr, printed.open("wb") as stdout:
        up = subprocess.Popen(
            [sys.executable, "-m", "ops", "up"],
            env={**os.environ, "WITHDRAWALS_PORT": str(port), "WITHDRAWALS_PROCESSES": "1"},
            stdout=stdout,
            stderr=stderr,
        )
    try:
        eventually(lambda: f"Console: http://127.0.0.1:{port}/console" in printed.read_text(encoding="utf-8"))
        assert ask(port, "/healthz"), "what it is to open is printed once it is there"
        assert _here("jobs", "list").code == 1, "there is a database, and no organisation"
        assert "DATABASE_URL is not set: using an embedded PostgreSQL" in said.read_text(encoding="utf-8")
        sample = Path(__file__).parents[2] / "ops/demo/data/sample.csv"
        assert _here("load", str(sample), "--organisation", "Acme").code == 0
        for name in ("web", "worker", "relay"):
            refused(name)
        with monkeypatch.context() as patched:
            patched.setenv("DATABSE_URL", "x")
            refused("jobs", "list")  # perhaps another one was meant
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(PATIENCE)
    refused("jobs", "list")  # nothing runs any more
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without the program
    for started in (Path(sys.executable).with_name("withdrawals"), Path(__file__).parents[2] / "ops/__main__.py"):
        pasted = run.next_command("Acme", LocalServers(reachable).database_url, run.program(str(started)))
        ran = subprocess.run(["/bin/sh", "-c", pasted], capture_output=True, text=True, check=False, timeout=240)
        assert (ran.returncode, ran.stderr) == (0, ""), "the same data, because it was asked for: as the demo says it"
    refused("jobs", "list")
