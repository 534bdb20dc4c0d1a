"""Faults for the embedded servers: what tests do to PostgreSQL and Redis, and production code never does."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Literal

import redis

from ops.local.process import command_line, wait_until
from ops.local.servers import LocalServers

Mode = Literal["fast", "immediate"]
GONE_SECONDS = 10.0


def kill_postgres(servers: LocalServers) -> None:
    """SIGKILL the postmaster and every process of its own at once; returns when none is left."""
    postmaster = servers.postgres.pid()
    assert postmaster, "PostgreSQL does not run"
    os.kill(postmaster, signal.SIGSTOP)  # it must not start another process meanwhile
    _kill([postmaster, *_children(postmaster)])


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


def _children(parent: int) -> list[int]:
    # Where there is no /proc they are left to notice the death of the postmaster, which they do at once.
    children = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, after_name = entry.parent.name, entry.read_text(encoding="utf-8").rpartition(")")[2]
            if int(after_name.split()[1]) == parent:
                children.append(int(pid))
    return children
