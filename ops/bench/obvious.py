"""The obvious program, as a baseline: a plain Dramatiq actor with one transaction for each enrolment.

Tuned after Dramatiq's user guide: several processes, because of Python's lock, with a few threads each, here as many
as the service has; one pool of connections a process; the default prefetch, twice the threads (eight times the threads
was slower when tried). Messages are acknowledged after the work, as Dramatiq always does.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import dramatiq
import sqlalchemy
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import Engine, text

from worker.database_urls import parse_url

QUEUE = "obvious"

READ = "SELECT status, pathway_id FROM lms.enrolments WHERE id = :id FOR UPDATE"
WRITE = """UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(),
    withdrawal_reason = 'not_required', withdrawn_by = 'obvious' WHERE id = :id"""


def make_engine() -> Engine:
    """The pool of one worker process."""
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", connect_args=parse_url(os.environ["DATABASE_URL"]), pool_size=8
    )


def withdraw_one(engine: Engine, enrolment_id: int) -> None:
    """Withdraw one enrolment by the rules, in a transaction of its own; done twice, it changes nothing."""
    with engine.begin() as connection:
        status, pathway = connection.execute(text(READ), {"id": enrolment_id}).one()
        if status == "in_progress" and pathway is None:
            connection.execute(text(WRITE), {"id": enrolment_id})


def make_broker() -> RedisBroker:
    """Dramatiq's Redis broker with its default middleware."""
    broker = RedisBroker(url=os.environ["BROKER_URL"], namespace="bench")
    broker.declare_queue(QUEUE)
    return broker


@contextmanager
def sender() -> Iterator[Callable[[Iterable[int]], None]]:
    """What enqueues a message for each enrolment, over one broker."""
    broker = make_broker()

    def send(enrolment_ids: Iterable[int]) -> None:
        for enrolment_id in enrolment_ids:
            broker.enqueue(_message(enrolment_id))

    yield send
    broker.close()


def _message(enrolment_id: int) -> dramatiq.Message[None]:
    return dramatiq.Message(queue_name=QUEUE, actor_name="withdraw", args=(enrolment_id,), kwargs={}, options={})


def command(processes: int, threads: int) -> list[str]:
    """The command that starts its workers, with as many processes and threads as the service."""
    return [
        sys.executable, "-m", "dramatiq", "ops.bench.obvious:setup", "--processes", str(processes),
        "--threads", str(threads),
    ]  # fmt: skip


def setup() -> None:
    """Called by Dramatiq in each worker process."""
    engine, broker = make_engine(), make_broker()
    dramatiq.set_broker(broker)

    @dramatiq.actor(actor_name="withdraw", queue_name=QUEUE, broker=broker)
    def withdraw(enrolment_id: int) -> None:
        withdraw_one(engine, enrolment_id)
