"""What the service is compared with: other queues that do the same work, one job for each enrolment.

Their packages are in the dependency group `bench`; a peer that is not installed fails its rows and no others.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ops.bench.site import Processes, Site, Size, World, until
from worker.config import Settings

NAMES = ("dramatiq", "celery", "procrastinate")
_MODULES = {"dramatiq": "obvious", "celery": "with_celery", "procrastinate": "with_procrastinate"}
_CONCURRENCY = 4
"""Tasks at a time in one process of Procrastinate: of 2, 4, 8 and 16 the fastest, though on a busy machine."""
_WARM = 64
"""Enrolments that are withdrawn before the clock starts: every process has its connections and its statements then."""


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """A peer whose workers are ready."""

    world: World
    send: Callable[[Iterable[int]], None]
    processes: Processes


@contextmanager
def running(site: Site, name: str, enrolments: int) -> Iterator[RunningPeer]:
    """A fresh database with this many enrolments, from id 1, and a peer's workers that are warm and idle.

    Raises:
        ModuleNotFoundError: the peer is not installed.
    """
    module = import_module(f"ops.bench.{_MODULES[name]}")
    with site.fresh(Size(bulk=enrolments + _WARM)) as world:
        if name == "procrastinate":
            module.prepare()
        commands = _commands(name, module, world.settings)
        with module.sender() as send, world.processes(**commands) as processes:
            send(range(enrolments + 1, enrolments + _WARM + 1))
            until(lambda: world.withdrawn() == _WARM, what=f"the workers of {name} are ready", within=60)
            yield RunningPeer(world, send, processes)


def until_done(peer: RunningPeer, enrolments: int) -> None:
    """Wait until the enrolments from id 1 on are withdrawn."""
    until(lambda: peer.world.withdrawn() == enrolments + _WARM, what=f"{enrolments:,} enrolments are withdrawn")


def _commands(name: str, module: Any, settings: Settings) -> dict[str, list[str]]:
    if name == "procrastinate":
        return {f"procrastinate{number}": module.command(_CONCURRENCY) for number in range(settings.processes)}
    return {name: module.command(settings.processes, settings.threads)}
