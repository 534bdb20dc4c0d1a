"""The release before this one, from the project's history, and producers that do not mind which one answers."""

import io
import os
import random
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from schemas.client import BusyError, Client, UnreachableError
from schemas.jobs import JobRequest

ROOT = Path(__file__).parents[2]
_SHORT = 3.0
"""Seconds for which one web process is asked before another is."""


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


class Producers:
    """Send each request to one of the web processes there are, with its key, until one has answered."""

    def __init__(self, token: str) -> None:
        self.addresses: list[str] = []
        self._token = token

    def send(self, key: str, ids: list[int]) -> tuple[int, None]:
        """The id of the job."""
        request = JobRequest(reason="not_required", enrolment_ids=ids)
        while True:
            address = random.choice(self.addresses or ["http://127.0.0.1:1"])
            try:
                with Client(address, self._token, patience=_SHORT) as client:
                    return client.submit(request, key=key).id, None
            except (UnreachableError, BusyError):
                threading.Event().wait(0.05)
