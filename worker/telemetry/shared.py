"""Metrics of a command that runs as several processes: each writes to files of its own, and any of them adds up.

prometheus_client keeps values in memory-mapped files for this, and names them by process id: a process that is started
again and again would fill the disk. Here a process takes the first free place in the directory instead, and goes on
with the counts of the one that had it before. A place is a lock that the kernel frees when its process ends, however it
ends, so that everybody can see which places are taken.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from prometheus_client import values

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the directory to the processes of a command; the library reads it too."""


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for the metrics of the processes that this one starts meanwhile."""
    before = os.environ.get(DIRECTORY)
    with tempfile.TemporaryDirectory(prefix="withdrawals-metrics-") as made:
        os.environ[DIRECTORY] = made
        try:
            yield Path(made)
        finally:
            os.environ.pop(DIRECTORY, None)
            if before is not None:
                os.environ[DIRECTORY] = before


def drop_dead(path: Path) -> None:
    """Delete the gauges of processes that have ended. Their counters stay, so that no sum ever falls."""
    for lock in path.glob("*.place"):
        with lock.open("rb") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives
            for gauge in path.glob(f"gauge_live*_{lock.stem}.db"):
                gauge.unlink(missing_ok=True)


class _Place:
    """The place of this process."""

    def __init__(self) -> None:
        self._pid, self._number, self._lock = -1, -1, -1

    def __call__(self) -> int:
        """Its number; another one after a fork, which inherits the lock but must not share the files."""
        if self._pid != os.getpid():
            self._number, self._lock = _take(Path(os.environ[DIRECTORY]))
            self._pid = os.getpid()
        return self._number


def _take(path: Path) -> tuple[int, int]:
    for number in count():
        found = os.open(path / f"{number}.place", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(found)
        else:
            return number, found
    raise AssertionError("there is always one more")


if os.environ.get(DIRECTORY):
    values.ValueClass = values.MultiProcessValue(_Place())  # type: ignore[no-untyped-call] # before the first metric
