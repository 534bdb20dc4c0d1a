"""The processes of an installed release: started, stopped, killed and restarted one by one, as service managers do."""

import re
from contextlib import suppress
from pathlib import Path

import httpx2

from ops.walk.programs import Program, free_port
from ops.walk.releases import Release
from ops.walk.waiting import until

JOBS = {kind: f"withdrawals-{kind}" for kind in ("web", "worker", "relay")}
"""The names that rules and dashboards know the processes by."""


class Service:
    """Two of each kind by default, as docs/operations/install.md recommends."""

    def __init__(self, release: Release, logs: Path, *, each: int = 2, probes: bool = True) -> None:
        """`probes`: whether worker and relay of this release answer on a port of their own."""
        self._release, self._logs, self._probes = release, logs, probes
        self.ports = {f"{kind}-{letter}": free_port() for kind in JOBS for letter in "abcd"[:each]}
        self._running: dict[str, Program] = {}
        self._client = httpx2.Client(timeout=30)

    @property
    def addresses(self) -> list[str]:
        """Where web answers."""
        return [f"http://127.0.0.1:{port}" for name, port in self.ports.items() if name.startswith("web")]

    def targets(self) -> dict[str, list[int]]:
        """The ports that Prometheus scrapes, by job."""
        return {job: [port for name, port in self.ports.items() if name.startswith(kind)] for kind, job in JOBS.items()}

    def start(self, *names: str) -> None:
        """Start processes (all by default), and wait until they are ready."""
        wanted = names or tuple(self.ports)
        for name in wanted:
            kind = name.partition("-")[0]
            environment = self._release.environment | self._port(kind, self.ports[name])
            self._running[name] = Program([self._release.program, kind], self._logs / f"{name}.log", environment)
        for name in wanted:
            if self._probes or name.startswith("web"):
                until(lambda name=name: self.is_ready(name), f"{name} is ready, see {self._logs / name}.log")  # type: ignore[misc]

    def is_ready(self, name: str) -> bool:
        """Whether its probe says so; `degraded` counts as ready, as it does for a load balancer."""
        try:
            return self._client.get(f"http://127.0.0.1:{self.ports[name]}/readyz").is_success
        except httpx2.TransportError:
            return False

    def leader(self) -> str:
        """The relay that leads, by what it says of itself; empty while none does."""
        for name, port in self.ports.items():
            if name.startswith("relay") and self._leads(port):
                return name
        return ""

    def restart(self) -> None:
        """One machine after the other (its web, worker and relay): the next one once the one before is ready."""
        for machine in sorted({name.partition("-")[2] for name in self._running}):
            names = [name for name in self._running if name.endswith(f"-{machine}")]
            for name in names:
                self._running[name].stop()
            self.start(*names)

    def kill(self, name: str) -> None:
        """End one at once (SIGKILL), with its children."""
        self._running[name].kill()

    def stop(self) -> None:
        """Ask all to end, workers and relays last."""
        for process in self._running.values():
            process.stop()

    def close(self) -> None:
        """End whatever runs still."""
        for process in self._running.values():
            process.kill()
        self._client.close()

    def _port(self, kind: str, port: int) -> dict[str, str]:
        if kind == "web":
            return {"WITHDRAWALS_PORT": str(port)}
        return {"WITHDRAWALS_HEALTH_PORT": str(port)} if self._probes else {}

    def _leads(self, port: int) -> bool:
        """Whether a relay says so; one that does not answer leads nothing."""
        with suppress(httpx2.TransportError):
            said = self._client.get(f"http://127.0.0.1:{port}/metrics").text
            return re.search(r"^withdrawals_relay_leads\{.*\} 1\.0$", said, re.MULTILINE) is not None
        return False
