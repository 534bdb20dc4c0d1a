"""The release before this one, from the project's history."""

import io
import os
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def previous_release(directory: Path) -> Path:
    """Its code, in a directory; the test is skipped where the history lacks it."""
    revision = os.environ.get("CHAOS_PREVIOUS", "v0.1.0")
    found = subprocess.run(
        [shutil.which("git") or "git", "-C", ROOT, "archive", revision], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"needs the project's git history with the tag {revision}, or CHAOS_PREVIOUS=a revision")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
