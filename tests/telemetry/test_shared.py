"""Places in the directory of a command's metrics: taken by one process each, free again when it ends."""

import subprocess
import sys
from pathlib import Path

from worker.telemetry import shared

COUNT = """
import os, sys
from worker.telemetry import metrics
metrics.OUTCOMES.labels("withdrawn").inc(2)
metrics.POOL.labels("worker", "in_use").set(5)
print(metrics.exposition().decode())
sys.stdout.flush()
if len(sys.argv) > 1:
    sys.stdin.read()
"""


def run(path: Path) -> str:
    environment = {"PATH": "", shared.DIRECTORY: str(path)}
    return subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_process_that_takes_a_free_place_goes_on_counting(tmp_path: Path) -> None:
    """So a process that is started again and again leaves no files behind, and no sum falls."""
    assert 'withdrawals_outcomes_total{outcome="withdrawn"} 2.0' in run(tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert 'withdrawals_outcomes_total{outcome="withdrawn"} 4.0' in run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_the_gauges_of_a_dead_process_are_dropped_and_its_counters_stay(tmp_path: Path) -> None:
    environment = {"PATH": "", shared.DIRECTORY: str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", COUNT, "wait"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        both = run(tmp_path)
        assert 'withdrawals_pool_connections{pool="worker",state="in_use"} 10.0' in both
        first.kill()
        first.wait()
        after = run(tmp_path)
    assert 'withdrawals_pool_connections{pool="worker",state="in_use"} 5.0' in after
    assert 'withdrawals_outcomes_total{outcome="withdrawn"} 6.0' in after
