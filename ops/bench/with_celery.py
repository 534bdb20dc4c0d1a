"""The same work as a Celery task: one task for each enrolment, over Redis.

Tuned after Celery's guide "Optimizing" for many short tasks: a large prefetch, no results kept, tasks acknowledged
late (a task that may run twice is safe here, and one that a crash loses is not), no gossip, mingle or heartbeats
between workers, and no limits of rate. The producer keeps one connection for all that it sends.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from ops.bench import obvious

app = Celery("bench")
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)
_pool: dict[str, Any] = {}


def _open_pool(**_: Any) -> None:
    _pool["engine"] = obvious.make_engine()  # after the fork: a connection must not be shared


worker_process_init.connect(_open_pool)


def _withdraw(enrolment_id: int) -> None:
    obvious.withdraw_one(_pool["engine"], enrolment_id)


_task = app.task(_withdraw, name="withdraw")


@contextmanager
def sender() -> Iterator[Callable[[Iterable[int]], None]]:
    """What sends a task for each enrolment, over one connection."""
    app.conf.broker_url = _broker_url()
    with app.producer_pool.acquire(block=True) as producer:

        def send(enrolment_ids: Iterable[int]) -> None:
            for enrolment_id in enrolment_ids:
                _task.apply_async((enrolment_id,), producer=producer)

        yield send


def command(processes: int, threads: int) -> list[str]:
    """The command that starts its workers: as many processes as the service has threads; half of them were slower."""
    return [
        sys.executable, "-m", "celery", "-A", "ops.bench.with_celery", "--broker", _broker_url(), "worker",
        "--concurrency", str(processes * threads), "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
        "--without-heartbeat",
    ]  # fmt: skip


def _broker_url() -> str:
    """Celery has another word for a Redis that listens on a Unix socket."""
    return os.environ["BROKER_URL"].replace("unix://", "redis+socket://").partition("?")[0]
