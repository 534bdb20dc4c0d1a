"""A worker of dramatiq's in this process, to see whether hints arrive."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import dramatiq

from tests.world import eventually
from worker.queue.hints import ACTOR, QUEUE, Hints


@contextmanager
def consumed(broker: Hints) -> Iterator[Callable[..., None]]:
    """Wait for so many hints; `keep`: a broker to top up meanwhile, as the relay does."""
    done = threading.Semaphore(0)
    broker.declare_actor(
        dramatiq.Actor(done.release, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={})
    )
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()

    def wait(count: int, *, keep: Hints | None = None) -> None:
        for _ in range(count):
            eventually(lambda: _arrives(done, keep), within=300, what="a hint arrives")

    try:
        yield wait
    finally:
        worker.stop()
        broker.close()


def _arrives(done: threading.Semaphore, keep: Hints | None) -> bool:
    if keep is not None:
        with suppress(*keep.errors):
            keep.top_up(1)
    return done.acquire(timeout=0.2)
