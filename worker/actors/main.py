"""What `dramatiq` loads in a worker process: the broker, its middleware and the two actors."""

import dramatiq

from worker.config import settings
from worker.queue.broker import ACTOR, QUEUE, WEBHOOKS_ACTOR, WEBHOOKS_QUEUE, make_broker
from worker.queue.middleware import Lifecycle, MessageLogs

lifecycle = Lifecycle(settings())
broker = make_broker(settings().broker_url.get_secret_value(), [lifecycle, MessageLogs()])
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name=ACTOR, queue_name=QUEUE)
def work_off() -> None:
    """Something is due: claim and decide until nothing is."""
    lifecycle.withdrawer.work_off()


@dramatiq.actor(actor_name=WEBHOOKS_ACTOR, queue_name=WEBHOOKS_QUEUE)
def deliver() -> None:
    """Somebody is to be told something: send until nothing is due."""
    lifecycle.deliverer.work_off()
