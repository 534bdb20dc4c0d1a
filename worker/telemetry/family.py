"""How the processes of one command are, seen from the process that started them, by the heartbeats they note."""

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.multiprocess import MultiProcessCollector

from worker.telemetry import shared
from worker.telemetry.health import HUNG_AFTER, LATE_AFTER, Report


class Family:
    """The `count` processes of a command, which share a directory for their metrics."""

    def __init__(self, path: Path, count: int, *, reaches_broker: Callable[[], bool]) -> None:
        self._path, self._count, self._reaches_broker = path, count, reaches_broker
        self._started = time.time()

    def alive(self) -> Report:
        """Whether each has a thread that goes on, wherever the database is. They get time to start."""
        running = self._beaten("thread", within=HUNG_AFTER)
        starts = time.time() - self._started < HUNG_AFTER
        return Report(starts or running >= self._count, {"processes": self._part(running)})

    def ready(self) -> Report:
        """Whether the database has just taken a heartbeat of each, and the broker answers."""
        running, broker = self._beaten("database", within=LATE_AFTER), self._reaches_broker()
        ok = running >= self._count and broker
        return Report(ok, {"processes": self._part(running), "broker": {"ok": broker}})

    def _part(self, running: int) -> dict[str, object]:
        return {"ok": running >= self._count, "running": running, "wanted": self._count}

    def _beaten(self, what: str, *, within: float) -> int:
        shared.drop_dead(self._path)
        since = time.time() - within
        collector = MultiProcessCollector(None, str(self._path))  # type: ignore[no-untyped-call]
        return sum(
            sample.labels["of"] == what and sample.value >= since
            for metric in collector.collect()  # type: ignore[no-untyped-call]
            if metric.name == "withdrawals_heartbeat_timestamp_seconds"
            for sample in metric.samples
        )
