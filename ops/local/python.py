"""Child processes that run this installation's own modules, whatever lies in the current folder.

`python -m` would look there first: a folder `ops` or `worker` of somebody else would run instead of ours.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds `ops`, `worker` and `schemas`: the repository, or the installed package."""


def module(name: str, *words: str) -> list[str]:
    """The command that runs a module; `-P` keeps the current folder off its path."""
    return [sys.executable, "-P", "-m", name, *words]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a child that runs `module`, with `more` added."""
    before = os.environ.get("PYTHONPATH")
    path = str(ROOT) if not before else f"{ROOT}{os.pathsep}{before}"
    return {**os.environ, "PYTHONPATH": path, **(more or {})}
