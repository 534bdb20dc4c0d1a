"""A command imports what it needs itself, and `--help` still shows every command."""

import subprocess
import sys
from pathlib import Path

import pytest

import ops.cli
from ops.cli import tree

HEAVY = ("alembic", "dramatiq", "fastapi", "pyarrow", "redis", "worker.jobs.submit")
"""What most commands can do without, and what takes a process long to import."""


def test_a_supervisor_of_workers_imports_no_more_than_it_needs() -> None:
    words = "import sys; sys.argv[1:] = ['worker', '--help']; from ops.cli import main; main()"
    shown = f"import atexit, sys; atexit.register(lambda: print(sorted(set({HEAVY}) & set(sys.modules)))); {words}"
    ended = subprocess.run([sys.executable, "-c", shown], capture_output=True, check=True, text=True)
    assert "--processes" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"


def test_every_module_with_commands_is_in_the_tree() -> None:
    folder = Path(str(ops.cli.__file__)).parent
    modules = {file.stem for file in folder.glob("*.py") if "typer.Typer" in file.read_text(encoding="utf-8")}
    placed = {*tree._ALONE, *(module for group in tree._GROUPS.values() for module in group)}
    assert modules - {"app", "tree"} == placed


@pytest.mark.parametrize("name", tree.NAMES)
def test_each_command_is_found_by_its_name(name: str) -> None:
    found = tree._load(name)
    assert found.name == name
    assert found.help
