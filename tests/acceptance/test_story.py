"""The story of a request, from first to last, as its users live it. Read it top to bottom."""

import threading
from collections.abc import Iterator

import dramatiq
import pytest

from ops.supervisor import Supervisor, procfile_commands
from schemas.jobs import Filter, JobRequest
from tests.world import World, assert_balanced, eventually
from worker import letters, plan
from worker.broker import ACTOR, QUEUE, make_broker
from worker.config import Settings
from worker.database import Database
from worker.middleware import Lifecycle
from worker.models import Job, JobState
from worker.relay import Relay
from worker.submit import Requester, cancel, show, submit


@pytest.fixture
def processes(environment: Settings) -> Iterator[None]:
    """Worker and relay as real processes, as `withdrawals up` runs them."""
    commands = {name: command for name, command in procfile_commands().items() if name != "web"}
    with Supervisor(commands):
        yield


@pytest.fixture
def service(environment: Settings, db: Database) -> Iterator[None]:
    """The same parts in threads of this process, which is quicker to start and to stop."""
    url = environment.broker_url.get_secret_value()
    lifecycle = Lifecycle(environment)
    broker = make_broker(url, [lifecycle])

    @dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE, broker=broker)
    def work_off() -> None:
        lifecycle.withdrawer.work_off()
