"""The command line as a person uses it: words in, exit code and two streams out."""

import contextlib
import functools
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
import typer.main

from ops.cli.app import main
from tests.world import PATIENCE
from worker.config import settings

_get_command = functools.cache(typer.main.get_command)
"""The commands and their options are made once, not for every command that a test runs."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def withdrawals(*words: object) -> Ran:
    """Run a command in this process, as the `withdrawals` program would, and leave no trace of it here.

    Whatever main() does not turn into a message and an exit code comes out as it is, and fails the test.
    """
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch("typer.main.get_command", _get_command),
        _undone(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            with mock.patch.object(sys, "argv", ["withdrawals", *map(str, words)]):
                main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    ran = Ran(code, out.getvalue(), err.getvalue())
    assert ran.code == 0 or ran.out or ran.err, f"{words} ended with {code} and without a word"
    return ran


def done(*words: object) -> Any:
    """Run a command with `--json` that must succeed; its document."""
    ran = withdrawals(*words, "--json")
    assert ran.code == 0, ran
    return ran.document


def refused(*words: object) -> str:
    """Run a command that must be refused as wrong use; what it said."""
    ran = withdrawals(*words)
    assert ran.code == 2, (ran.code, ran.out, ran.err)
    assert not ran.out
    return ran.err


def program(*words: object, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Ran:
    """Run the real program in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "ops", *(word if isinstance(word, bytes) else str(word) for word in words)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, **(environment or {})},
    )
    assert b"Traceback" not in ended.stderr, ended.stderr.decode()
    return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def csv_file(directory: Path, content: str | bytes, name: str = "ids.csv") -> Path:
    """A file with this content, byte for byte."""
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    configured, level = structlog.get_config(), logging.getLogger().level
    handler = signal.getsignal(signal.SIGTERM)
    settings.cache_clear()
    try:
        yield
    finally:
        structlog.configure(**configured)
        logging.getLogger().setLevel(level)
        signal.signal(signal.SIGTERM, handler)
        settings.cache_clear()
