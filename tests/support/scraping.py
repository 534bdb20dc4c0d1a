"""Ask processes of the service how they are and what they counted."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from random import sample

import httpx2
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _ports() -> Iterator[int]:
    """In an order of this process, each once; of the processes of one test run each has others."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    of = range(20_000 + number, 30_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    while True:
        yield from sample(of, len(of))


_ports_of_this_process = _ports()


def free_port() -> int:
    """A port that nobody listens on, for a server that takes its time until it does.

    The system gives it to no outgoing connection meanwhile, and no other test gets it.
    """
    for port in _ports_of_this_process:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there are always more")


def ask(port: int, path: str) -> httpx2.Response | None:
    """The answer of a process; None while it does not listen."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=30)
    return None


def parse(text: str) -> Samples:
    """Samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample; 0 where there is none."""
    return found.get((name, tuple(sorted(labels.items()))), 0.0)
