"""An idle system: how long one request takes on it, beside the other queues, and what it costs to be idle."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from os import sysconf
from pathlib import Path

import redis
from sqlalchemy import text

from ops.bench import peers
from ops.bench.results import Results
from ops.bench.site import Processes, Site, Size, World, alternate, until
from schemas.jobs import JobRequest
from worker.jobs.singles import warm_up
from worker.jobs.submit import Requester, submit

_NAMES = ("web", "worker", "relay")
_PAUSE = 0.05
"""Seconds between two requests, so that every process is idle again."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything."""

    requests: int = 70
    """Single requests of one side in one round."""
    seconds: float = 30
    """How long the idle system is watched."""
    rounds: int = 3


QUICK = Amount(requests=10, seconds=2, rounds=1)


def run(site: Site, results: Results, amount: Amount) -> None:
    """Measure latencies, then the cost of being idle."""
    for number in range(amount.rounds):
        _round(site, results, amount, number)
    with results.attempt("idle.cpu", "idle.redis", "idle.wal"):
        watch(site, results, amount.seconds)


def _round(site: Site, results: Results, amount: Amount, number: int) -> None:
    found: dict[str, list[float]] = {}

    def measure(name: str) -> None:
        keys = ["latency.p50", "latency.p99"] if name == "ours" else [f"latency.p50.{name}", f"latency.p99.{name}"]
        with results.attempt(*keys):
            found[name] = _ours(site, amount.requests) if name == "ours" else _peer(site, name, amount.requests)

    alternate(number, *(partial(measure, name) for name in ("ours", *peers.NAMES)))
    if "ours" not in found:
        return
    for share, key in ((0.5, "latency.p50"), (0.99, "latency.p99")):
        results.add(key, _quantile(found["ours"], share))
        for name in peers.NAMES:
            if name in found:
                results.add(f"{key}.{name}", _quantile(found["ours"], share), _quantile(found[name], share))


def _ours(site: Site, requests: int) -> list[float]:
    with site.fresh(Size(bulk=requests)) as world, world.processes(*_NAMES):
        warm_up(world.database)  # as a web process does at its start

        def send(ids: Iterable[int]) -> None:
            for enrolment_id in ids:
                requester = Requester(world.organisation_id, "bench", "api", f"single-{enrolment_id}")
                submit(world.database, requester, JobRequest(reason="not_required", enrolment_ids=[enrolment_id]))

        return _latencies(world, send, requests)


def _peer(site: Site, name: str, requests: int) -> list[float]:
    with peers.running(site, name, requests) as peer:
        return _latencies(peer.world, peer.send, requests)


def _latencies(world: World, send: Callable[[Iterable[int]], None], requests: int) -> list[float]:
    """Milliseconds from before each request to a read that sees the enrolment withdrawn."""
    found = []
    query = text("SELECT status FROM lms.enrolments WHERE id = :id")
    with world.owner.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for enrolment_id in range(1, requests + 1):
            time.sleep(_PAUSE)
            began = time.perf_counter()
            send([enrolment_id])
            until(
                lambda id_=enrolment_id: connection.scalar(query, {"id": id_}) == "withdrawn",  # type: ignore[misc]
                what=f"enrolment {enrolment_id} is withdrawn",
                every=0.001,
                within=60,
            )
            found.append((time.perf_counter() - began) * 1000)
    return found


def watch(site: Site, results: Results, seconds: float) -> None:
    """Measure the processor time of the busiest process, commands of Redis, and WAL, while nothing is asked."""
    with site.fresh(Size(bulk=1000)) as world, world.processes(*_NAMES) as processes:
        time.sleep(min(seconds, 10))  # what follows a start is over
        client = redis.Redis.from_url(world.settings.broker_url.get_secret_value())
        cpu, commands, wal = _cpu(processes), _commands(client), _wal(world)
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        used = {pid: after - cpu.get(pid, 0.0) for pid, after in _cpu(processes).items()}
        results.add("idle.cpu", max(used.values()) / passed * 100)
        results.add("idle.redis", (_commands(client) - commands - 1) / passed)  # less the one that asks
        results.add("idle.wal", (_wal(world) - wal) / passed * 60 / 1000)


def _cpu(processes: Processes) -> dict[int, float]:
    """Seconds of processor time of each process so far."""
    found = {}
    for name in _NAMES:
        for pid in processes.family(name):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[pid] = (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")
    return found


def _commands(client: redis.Redis) -> int:
    return int(client.info("stats")["total_commands_processed"])


def _wal(world: World) -> int:
    with world.owner.begin() as connection:
        return int(connection.scalar(text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")) or 0)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
