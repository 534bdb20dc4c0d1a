"""Requests that go on while a test changes something under them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.world import eventually


@contextmanager
def traffic(request: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Make requests all the time; what is yielded waits for two more. The first that fails fails the test."""
    stop, made, failed = threading.Event(), [0], list[BaseException]()

    def run() -> None:
        try:
            while not stop.is_set():
                request()
                made[0] += 1
        except BaseException as error:
            failed.append(error)

    def more() -> None:
        before = made[0]
        eventually(lambda: made[0] >= before + 2 or failed)
        assert not failed, failed

    sender = threading.Thread(target=run)
    sender.start()
    try:
        more()
        yield more
        more()
    finally:
        stop.set()
        sender.join()
    assert not failed, failed
