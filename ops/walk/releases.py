"""A release: built from its code, installed from its wheel with the locked versions, and its commands."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.walk.programs import run

ROOT = Path(__file__).resolve().parents[2]
PREVIOUS = os.environ.get("CHAOS_PREVIOUS", "v0.1.0")
"""The tag of the release before this one."""


class Release:
    """An installed release. `environment`: all that its commands get; nothing of this process's own is in it."""

    def __init__(self, program: Path, environment: Mapping[str, str]) -> None:
        self.program = program
        self.environment = dict(environment)

    def run(
        self, *words: str, more: Mapping[str, str] | None = None, codes: Sequence[int] = (0,), text: str | None = None
    ) -> str:
        """Run a command; what it printed. `more`: variables for it alone."""
        environment = self.environment | dict(more or {})
        return run([self.program, *words], environment, codes=codes, text=text, cwd=Path(environment["HOME"]))

    def ask(self, *words: str, more: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> Any:
        """The document that a command prints with `--json`."""
        return json.loads(self.run(*words, "--json", more=more, codes=codes))


def previous_code(folder: Path) -> Path | None:
    """The code of the previous release, from the history; None where the history does not have it."""
    git = shutil.which("git") or "git"
    found = subprocess.run([git, "-C", ROOT, "archive", PREVIOUS], capture_output=True, check=False)
    if found.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def install(folder: Path, code: Path = ROOT) -> tuple[Path, str]:
    """Build a release's wheel and install it as docs/operations/install.md says; its program and its version.

    The index and the packages that are at hand are those of this machine's pip. Packages that are there are used again.
    """
    shutil.rmtree(folder / "dist", ignore_errors=True)
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"], os.environ, cwd=code)
    (wheel,) = (folder / "dist").glob("*.whl")
    pip: list[str | Path] = [folder / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if not (folder / "complete").exists():
        run([sys.executable, "-m", "venv", folder / "venv"], os.environ)
        run([*pip, "--require-hashes", "-r", code / "requirements/production.txt"], os.environ)
        (folder / "complete").touch()
    run([*pip, "--force-reinstall", wheel], os.environ)
    return folder / "venv/bin/withdrawals", wheel.name.split("-")[1]
