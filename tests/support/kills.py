"""Kill every process of the service once at every failpoint that it passes, while all of them work."""

import threading
from contextlib import suppress
from pathlib import Path

from tests.support import failpoints
from tests.support.clocks import SITE
from tests.support.failpoints import Point


def environment(directory: Path) -> dict[str, str]:
    """Variables for child processes that kill themselves. `directory` gets a file for each failpoint that has killed.

    Nobody is killed before `directory` has a file `armed`: until then processes start, and requests arrive.
    """
    return {"PYTHONPATH": str(SITE), "CHAOS_KILLS": str(directory)}


def arm(directory: Path) -> None:
    """Let the processes of this directory kill themselves from now on."""
    (directory / "armed").touch()


def disarm(directory: Path) -> None:
    """Let them live."""
    (directory / "armed").unlink()


def killed_at(directory: Path) -> set[str]:
    """The failpoints that have killed a process."""
    return {path.name for path in directory.iterdir()} - {"armed"}


def install(directory: Path) -> None:
    """What a child process does at its start: each failpoint kills the first process that reaches it."""
    failpoints.install()
    known: set[str] = set()
    lock = threading.Lock()

    def pass_or_die(name: str) -> None:
        with lock:
            if name in known or not (directory / "armed").exists():
                return
            known.add(name)
        with suppress(FileExistsError):
            (directory / name).touch(exist_ok=False)
            failpoints.kill(Point(name, None))

    failpoints._record.append(pass_or_die)
