"""Processes and what tests do to them: those of the service, started one by one, and the embedded servers under it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import redis

from ops.local.process import command_line, wait_until
from ops.local.servers import LocalServers

Mode = Literal["fast", "immediate"]
GONE_SECONDS = 60.0

RELAY = [sys.executable, "-m", "ops", "relay"]
WORKER = [sys.executable, "-m", "ops", "worker", "--processes", "1", "--threads", "2"]

CHILDREN = {
    "WITHDRAWALS_LEASE_SECONDS": "5",  # runs out for real
    "WITHDRAWALS_CHUNK_SIZE": "40",
    "WITHDRAWALS_MAX_CLAIMS": "100",  # a chunk that is hit again and again is not to blame here
    "WITHDRAWALS_SHUTDOWN_SECONDS": "2",
    "WITHDRAWALS_LOG_LEVEL": "error",
}


@contextmanager
def process(
    command: list[str], more: Mapping[str, str] | None = None, *, log: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """One process that nobody starts again; gone at the end in any case."""
    environment = {**os.environ, **CHILDREN, **(more or {})}
    child = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
    try:
        yield child
    finally:
        for pid in family(child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()


def family(pid: int) -> list[int]:
    """A process and everything that it started, innermost last; needs /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = entry.read_text(encoding="utf-8").rpartition(")")[2]
            parents.setdefault(int(after_name.split()[1]), []).append(int(entry.parent.name))
    found = [pid]
    for known in found:
        found += parents.get(known, [])
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_postgres(servers: LocalServers) -> None:
    """SIGKILL the postmaster and every process of its own at once; returns when none is left."""
    postmaster = servers.postgres.pid()
    assert postmaster, "PostgreSQL does not run"
    os.kill(postmaster, signal.SIGSTOP)  # it must not start another process meanwhile
    _kill(family(postmaster))


def kill_postmaster(servers: LocalServers) -> None:
    """SIGKILL the postmaster alone; its backends end as soon as they notice."""
    postmaster = servers.postgres.pid()
    assert postmaster, "PostgreSQL does not run"
    _kill([postmaster])


def start_postgres(servers: LocalServers) -> None:
    """Start PostgreSQL again and wait until it answers, crash recovery included."""
    with servers.start_lock():
        servers.postgres.start()


def restart_postgres(servers: LocalServers, mode: Mode = "immediate") -> None:
    """Stop PostgreSQL under its clients and start it again; `immediate` makes it recover as after a crash."""
    with servers.start_lock():
        servers.postgres.stop(mode)
        servers.postgres.start()


def flush_redis(servers: LocalServers) -> None:
    """Empty every database of Redis, as a restart without persistence would."""
    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()


def kill_redis(servers: LocalServers) -> None:
    """SIGKILL Redis; returns when it is gone."""
    pid = servers.redis.pid()
    assert pid, "Redis does not run"
    _kill([pid])


def start_redis(servers: LocalServers) -> None:
    """Start Redis again, empty, and wait until it answers."""
    with servers.start_lock():
        servers.redis.start()


def commands(part: str) -> list[str]:
    """The command lines that contain `part`, of all processes; needs /proc.

    Every process of the embedded servers has the name of their `socket_dir` in it.
    """
    lines = (command_line(int(entry.name)) for entry in Path("/proc").glob("[0-9]*"))
    return [line for line in lines if part in line]


def erase(servers: LocalServers) -> None:
    """Remove the state directory of stopped servers, and what had to be put outside of it."""
    outside = (servers.state_dir / "postgres").resolve().parent
    shutil.rmtree(servers.state_dir)
    if outside != servers.state_dir:
        shutil.rmtree(outside)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(command_line, pids)), seconds=GONE_SECONDS), "SIGKILL did not work"
