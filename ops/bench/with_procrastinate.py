"""The same work as a Procrastinate task: one job for each enrolment, in PostgreSQL.

Tuned after Procrastinate's documentation: an asynchronous task, so that one worker runs several at a time
("Worker"), jobs deferred in batches ("Batch defer"), LISTEN and NOTIFY left on for its latency, jobs that succeeded
deleted at once ("Delete finished jobs"), and a pool of asynchronous connections for the tasks. One worker process for
each process of the service: `python -m ops.bench.with_procrastinate CONCURRENCY`.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg_pool
from procrastinate import App, PsycopgConnector

from ops.bench import obvious

_READ, _WRITE = (statement.replace(":id", "%(id)s") for statement in (obvious.READ, obvious.WRITE))
_BATCH = 1000
_pool: dict[str, Any] = {}


def make_app() -> App:
    """The application, on the database of this process's environment."""
    app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=16))
    app.task(_withdraw, name="withdraw")
    return app


def prepare() -> None:
    """Create Procrastinate's tables."""
    with make_app().open() as app:
        app.schema_manager.apply_schema()


@contextmanager
def sender() -> Iterator[Callable[[Iterable[int]], None]]:
    """What defers a job for each enrolment, over one pool of connections."""
    with make_app().open() as app:

        def send(enrolment_ids: Iterable[int]) -> None:
            rest = iter(enrolment_ids)
            while batch := list(islice(rest, _BATCH)):
                app.configure_task("withdraw").batch_defer(*({"enrolment_id": one} for one in batch))

        yield send


def command(concurrency: int) -> list[str]:
    """The command that starts one worker."""
    return [sys.executable, "-m", "ops.bench.with_procrastinate", str(concurrency)]


async def _withdraw(enrolment_id: int) -> None:
    async with _pool["connections"].connection() as connection:  # commits at the end
        found = await (await connection.execute(_READ, {"id": enrolment_id})).fetchone()
        if found == ("in_progress", None):
            await connection.execute(_WRITE, {"id": enrolment_id})


async def _work(concurrency: int) -> None:
    app = make_app()
    async with (
        psycopg_pool.AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=concurrency) as connections,
        app.open_async(),
    ):
        _pool["connections"] = connections
        await app.run_worker_async(concurrency=concurrency, delete_jobs="successful")


if __name__ == "__main__":
    asyncio.run(_work(int(sys.argv[1])))
