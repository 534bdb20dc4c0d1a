"""The running service, for tests that explain it: a worker and a relay, and a way to wait for a job's end."""

import threading
from collections.abc import Callable, Iterator

import dramatiq
import pytest

from ops.local.supervisor import Supervisor, procfile_commands
from tests.world import World, eventually
from worker.config import Settings
from worker.database import Database
from worker.jobs.show import show
from worker.queue import broker as doorbell
from worker.queue.broker import make_broker
from worker.queue.hints import ACTOR, QUEUE
from worker.queue.middleware import Lifecycle
from worker.queue.relay import Relay
from worker.records import Job

Ended = Callable[[Job], Job]
"""`ended(job)`: wait until the job has ended; the job as it is then."""


@pytest.fixture
def processes(environment: Settings) -> Iterator[None]:
    """Worker and relay as real processes, as `withdrawals up` runs them."""
    commands = {name: command for name, command in procfile_commands().items() if name != "web"}
    with Supervisor(commands):
        yield


@pytest.fixture
def service(environment: Settings, db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same parts in threads of this process, which start and stop faster."""
    monkeypatch.setattr(doorbell, "_BELL_WAIT", 0.05)  # an idle worker ends between two waits
    url = environment.broker_url.get_secret_value()
    lifecycle = Lifecycle(environment)
    broker = make_broker(url, [lifecycle])

    @dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=broker)
    def drain() -> None:
        lifecycle.drain.run()

    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    relay = Relay(db, make_broker(url), environment)
    thread = threading.Thread(target=relay.run)
    thread.start()
    yield
    relay.stop()
    worker.stop()
    thread.join()
    broker.close()


@pytest.fixture
def ended(db: Database, world: World) -> Ended:
    def wait(job: Job) -> Job:
        def look() -> Job | None:
            found = show(db, organisation_id=world.organisation_id, job_id=job.id)
            return found if found.finished_at is not None else None

        return eventually(look, what=f"job {job.id} ends")

    return wait
