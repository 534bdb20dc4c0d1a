"""Prometheus and its promtool, where they are installed; `.ci/run` installs Debian's package."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import processes
from tests.support.scraping import ask, free_port
from tests.world import eventually

_CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: ["{rules}"]
scrape_configs:
"""
_JOB = """
  - job_name: {job}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; without them the test is skipped, except in CI."""
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed; .ci/run does that"
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


class Prometheus:
    """One that runs, asked over its API."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def query(self, expr: str) -> Sequence[dict[str, Any]]:
        """The series that an expression has now."""
        answer = httpx2.get(f"{self._address}/api/v1/query", params={"query": expr}, timeout=30).json()
        assert answer["status"] == "success", (expr, answer)
        return list(answer["data"]["result"])

    def rules(self) -> dict[str, str]:
        """The expression of each alert, as Prometheus has read it."""
        answer = httpx2.get(f"{self._address}/api/v1/rules", timeout=30).json()
        return {rule["name"]: rule["query"] for group in answer["data"]["groups"] for rule in group["rules"]}


@contextmanager
def running(directory: Path, rules: Path, jobs: dict[str, int]) -> Iterator[Prometheus]:
    """Prometheus over the processes at these ports, by the names of their jobs; it looks every second."""
    path = program("prometheus")
    config, port = directory / "prometheus.yaml", free_port()
    lines = [_CONFIG.format(rules=rules), *(_JOB.format(job=job, port=of) for job, of in jobs.items())]
    config.write_text("".join(lines), encoding="utf-8")
    command = [
        path, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with processes.process(command):
        eventually(lambda: (ask(port, "/-/ready") or httpx2.Response(503)).status_code == 200)
        yield Prometheus(port)
