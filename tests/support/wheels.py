"""The wheels, built and installed into an environment of their own, as a user has them outside of the repository.

The dependencies are those of this environment, so that nothing is downloaded: a `.pth` file adds its folder, which
does not read the `.pth` files inside it, so the repository itself is not on the path. A finder hides every package
that an installation would not have.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HIDDEN = "TEST_HIDDEN_PACKAGES"
_HIDE = """
import json, os, sys
class Hide:
    hidden = frozenset(json.loads(os.environ.get("TEST_HIDDEN_PACKAGES", "[]")))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"not installed here: {name}", name=name)
sys.meta_path.insert(0, Hide())
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with both wheels."""

    wheels: list[Path]
    programs: Path

    @property
    def python(self) -> Path:
        return self.programs / "python"

    @property
    def withdrawals(self) -> Path:
        return self.programs / "withdrawals"

    def environment(self, *, only: Iterable[str]) -> dict[str, str]:
        """The variables for a program that has `only` these distributions beside the standard library."""
        return {**os.environ, HIDDEN: json.dumps(sorted(_hidden(set(only))))}


def build(directory: Path, root: Path = ROOT) -> list[Path]:
    """Build the wheels of the service and, where there is one, of the client. `root`: of this release's code."""
    for project in (root, root / "schemas"):
        if not (project / "pyproject.toml").exists():
            continue
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
        subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=600)
    return sorted(directory.glob("*.whl"))


def install(directory: Path, root: Path = ROOT, python: str = sys.executable) -> Installed:
    """Build and install the wheels of a release below a directory, for this Python."""
    wheels = build(directory / "dist", root)
    venv = directory / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True, timeout=600)
    installed = Installed(wheels, venv / "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(installed.python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--no-compile", *map(str, wheels)], check=True, timeout=600)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "_hide.py").write_text(_HIDE, encoding="utf-8")
    folders = map(str, dependencies())
    (site / "dependencies.pth").write_text("\n".join([*folders, "import _hide"]), encoding="utf-8")
    return installed


def dependencies() -> list[Path]:
    """The folders that have the packages of this environment."""
    return sorted({path for path in map(Path, sys.path) if path.name == "site-packages"})


def needed_by(*requirements: str) -> set[str]:
    """The distributions of these requirements, with all that they need themselves."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
            continue
        extras = {"", *wanted.extras}
        first = name not in found
        found.add(name)
        if first or wanted.extras:
            for text in metadata.requires(name) or ():
                inner = Requirement(text)
                if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                    inner.marker = None
                    if first or canonicalize_name(inner.name) not in found:
                        waiting.append(inner)
    return found


def _hidden(only: set[str]) -> set[str]:
    return {
        package
        for package, distributions in metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in distributions} & (only | {"withdrawals"})
    }
