"""The obvious program, as a baseline: a plain Dramatiq actor with one transaction for each enrolment."""

import os
import sys

import dramatiq
import sqlalchemy
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import text

from worker.database import parse_url

QUEUE = "obvious"


def make_broker() -> RedisBroker:
    """Dramatiq's Redis broker with its default middleware."""
    broker = RedisBroker(url=os.environ["BROKER_URL"], namespace="bench")
    broker.declare_queue(QUEUE)
    return broker


def message(enrolment_id: int) -> dramatiq.Message[None]:
    """The message that withdraws one enrolment."""
    return dramatiq.Message(queue_name=QUEUE, actor_name="withdraw", args=(enrolment_id,), kwargs={}, options={})


def command(processes: int, threads: int) -> list[str]:
    """The command that starts its workers, with as many processes and threads as the service."""
    return [
        sys.executable, "-m", "dramatiq", "ops.bench.obvious:setup", "--processes", str(processes),
        "--threads", str(threads),
    ]  # fmt: skip


def setup() -> None:
    """Called by Dramatiq in each worker process."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", connect_args=parse_url(os.environ["DATABASE_URL"]), pool_size=8
    )
    broker = make_broker()
    dramatiq.set_broker(broker)

    @dramatiq.actor(actor_name="withdraw", queue_name=QUEUE, broker=broker)
    def withdraw(enrolment_id: int) -> None:
        with engine.begin() as connection:
            status, pathway = connection.execute(
                text("SELECT status, pathway_id FROM lms.enrolments WHERE id = :id FOR UPDATE"), {"id": enrolment_id}
            ).one()
            if status == "in_progress" and pathway is None:
                connection.execute(
                    text("""UPDATE lms.enrolments SET status = 'withdrawn', withdrawn_at = now(),
                        withdrawal_reason = 'not_required', withdrawn_by = 'obvious' WHERE id = :id"""),
                    {"id": enrolment_id},
                )
