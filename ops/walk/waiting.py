"""Wait for what must come true, and say what did not."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds. Generous: the machine may have other work."""


class WalkError(Exception):
    """A step did not see what it must see; the message says what."""


def until(probe: Callable[[], T], what: str | Callable[[], str], *, within: float = PATIENCE, every: float = 0.2) -> T:
    """Call `probe` until its result is true; the result.

    Raises:
        WalkError: it was not within so many seconds. The message has what the probe found last.
    """
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise WalkError(f"{what if isinstance(what, str) else what()}: not within {within:.0f} s (found {found!r})")
        time.sleep(every)
    return found


def require(found: object, what: str) -> None:
    """What was found is true.

    Raises:
        WalkError: it is not; the message is `what`.
    """
    if not found:
        raise WalkError(what)
