"""What `dramatiq` loads in a worker process: the broker, its middleware and the three actors."""

import dramatiq

from worker.config import settings
from worker.queue.broker import CONSUMER_TIMEOUT, open_broker
from worker.queue.hints import (
    ACTOR,
    NOTIFICATIONS_ACTOR,
    NOTIFICATIONS_QUEUE,
    QUEUE,
    WEBHOOKS_ACTOR,
    WEBHOOKS_QUEUE,
)
from worker.queue.middleware import Lifecycle, MessageLogs

lifecycle = Lifecycle(settings())
broker = open_broker(settings().broker_url.get_secret_value(), [lifecycle, MessageLogs()], timeout=CONSUMER_TIMEOUT)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE)
def drain() -> None:
    """A chunk is due: claim and decide until none is."""
    lifecycle.drain.run()


@dramatiq.actor(actor_name=WEBHOOKS_ACTOR, queue_name=WEBHOOKS_QUEUE)
def deliver() -> None:
    """A webhook or a look-up in an HR system is due: make requests until none is."""
    lifecycle.lookups.run()
    lifecycle.deliverer.run()


@dramatiq.actor(actor_name=NOTIFICATIONS_ACTOR, queue_name=NOTIFICATIONS_QUEUE)
def notify() -> None:
    """A message is due: send until none is."""
    lifecycle.sender.run()
