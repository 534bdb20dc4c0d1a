"""A real Prometheus with the committed configuration and rules, over the processes of the walk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import yaml

from ops import monitoring
from ops.monitoring.panels import BOARDS, RATE
from ops.walk.programs import Program, free_port, program
from ops.walk.waiting import WalkError, until

_COMMITTED = Path(monitoring.__file__).parent
_SPAN = "20s"
"""What Grafana puts in place of `$__rate_interval` at an interval of 5 s: four of them."""


def queries() -> dict[str, str]:
    """Every query of the committed dashboards, by board and panel."""
    found: dict[str, str] = {}
    for board in BOARDS:
        for panel in json.loads((_COMMITTED / f"dashboards/{board.uid}.json").read_text(encoding="utf-8"))["panels"]:
            for number, target in enumerate(panel.get("targets", ())):
                found[f"{board.uid}: {panel['title']} ({number + 1})"] = target["expr"]
    return found


class Prometheus:
    """One that runs; it looks at its targets as often as the committed configuration says."""

    def __init__(self, folder: Path) -> None:
        path = program("prometheus", "prometheus")
        self._folder, self._port = folder, free_port()
        folder.mkdir()
        config = yaml.safe_load((_COMMITTED / "prometheus.yaml").read_text(encoding="utf-8"))
        config["rule_files"] = [str(_COMMITTED / "rules.yaml")]
        for job in config["scrape_configs"]:
            del job["static_configs"]  # "replace the targets by yours", as the file says
            job["file_sd_configs"] = [{"files": [str(self._targets(job["job_name"]))]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self._jobs = [job["job_name"] for job in config["scrape_configs"]]
        self.watch({})
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60)
        self._program = Program(
            [path, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn"],
            folder / "prometheus.log",
        )  # fmt: skip
        until(self._is_ready, "Prometheus is ready")

    def watch(self, ports: Mapping[str, Sequence[int]]) -> None:
        """Scrape these ports, by the names of their jobs, and no others."""
        for job in self._jobs:
            targets = [f"127.0.0.1:{port}" for port in ports.get(job, ())]
            new = self._folder / "new"
            new.write_text(json.dumps([{"targets": targets}]), encoding="utf-8")
            new.rename(self._targets(job))

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        answer = self._client.get("/api/v1/query", params={"query": expr}).json()
        if answer["status"] != "success":
            raise WalkError(f"{expr}: {answer}")
        return list(answer["data"]["result"])

    def alerts(self) -> dict[str, str]:
        """The expression of each alert, as Prometheus has read it."""
        answer = self._client.get("/api/v1/rules").json()
        return {rule["name"]: rule["query"] for group in answer["data"]["groups"] for rule in group["rules"]}

    def is_seen(self, alert: str) -> list[dict[str, Any]]:
        """The series of an alert's expression, without its `for`."""
        return self.ask(self.alerts()[alert])

    def loud(self) -> list[str]:
        """The alerts whose expression has a series now."""
        return sorted(name for name, expr in self.alerts().items() if self.ask(expr))

    def empty(self) -> list[str]:
        """The dashboards' queries that have no data now."""
        return [name for name, expr in queries().items() if not self.ask(expr.replace(RATE, _SPAN))]

    def close(self) -> None:
        self._client.close()
        self._program.stop()

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx2.TransportError:
            return False

    def _targets(self, job: str) -> Path:
        return self._folder / f"{job}.json"
