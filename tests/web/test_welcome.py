"""What `withdrawals up` prints works as pasted, line by line, in a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.cli import welcome
from tests.world import World, apply_inbox
from worker.config import Settings
from worker.database import Database

ROOT = Path(welcome.__file__).parents[2]


@pytest.mark.long
def test_the_lines_that_up_prints_work_as_pasted(
    address: str, world: World, db: Database, environment: Settings
) -> None:
    """A shell with the environment that the first line would activate; the servers are this test's.

    Small: the tutorial of tests/docs pastes lines of the same commands.
    """
    script = [line for line in welcome.lines(address) if line != welcome.PREPARE[0]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(script)],  # noqa: S607 - any bash
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    job, jobs, receipt, challenge, users = (
        json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")
    )
    assert (job["accepted"], job["requested_by"].startswith("token:trial-")) == (2, True)
    assert [item["id"] for item in jobs["items"]] == [job["id"]]
    assert receipt["status"] == "accepted"
    assert challenge == {"verification": "trial"}
    assert {"okta: 200", "bamboohr: 200"} <= set(ran.stdout.splitlines())
    apply_inbox(db, environment)
    told = world.run("SELECT external_id FROM withdrawals.persons WHERE NOT active ORDER BY 1")
    assert [row.external_id for row in told] == ["ben", "cleo", "dan"]
    assert users["itemsPerPage"] == 2
