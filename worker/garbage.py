"""How seldom Python looks for garbage in a process that serves for long."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 50_000
"""After so many new objects, where Python has 700. In a storm those of all requests in progress were looked through
again and again, and found in use: a sixth of the web process' time."""


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while modules are loaded: they make many objects, and all of them stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_seldom() -> None:
    """Look for garbage seldom, and never among what is loaded by now. For a process that has just started.

    What is not part of a cycle is freed at once, as ever.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
