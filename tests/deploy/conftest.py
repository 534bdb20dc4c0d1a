"""The tools that judge the files of a deployment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "ops" / "deploy"
_NOT_TO_BE_HAD = {"kubectl"}
"""What neither Debian nor PyPI has in a version that will do; some machines have it nevertheless."""


def tool(name: str) -> str:
    """The path of a program of this environment or of the system. Without it the test is skipped, except in CI."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        if os.environ.get("CI") and name not in _NOT_TO_BE_HAD:
            pytest.fail(f"{name} is missing: .ci/run installs it")
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """What a tool says, both streams; it must find nothing wrong."""
    ran = subprocess.run([tool(name), *arguments], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return said
