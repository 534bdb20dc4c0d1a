"""Hints: messages that say only that something is due. What the relay and web need of the broker that carries them.

A hint carries nothing, so it can be neither stale nor wrong, and all of them may be lost: the relay makes new ones
from what PostgreSQL says is due.
"""

from typing import Any, ClassVar

import dramatiq

NAMESPACE = "withdrawals"
QUEUE = "due"
ACTOR = "chunks.drain"
WEBHOOKS_QUEUE = "webhooks"
WEBHOOKS_ACTOR = "webhooks.deliver"
NOTIFICATIONS_QUEUE = "notifications"
NOTIFICATIONS_ACTOR = "notifications.send"
QUEUES = (QUEUE, WEBHOOKS_QUEUE, NOTIFICATIONS_QUEUE)
TIMEOUT = 2.0
"""Seconds that a publisher, and a look at whether the broker answers, wait for it at most."""


class Hints(dramatiq.Broker):
    """A broker whose messages may all be lost."""

    errors: ClassVar[tuple[type[Exception], ...]]
    """What its calls raise while it is away."""

    def ping(self) -> None:
        """Ask it for an answer.

        Raises:
            Exception: one of `errors`; it does not answer.
        """
        raise NotImplementedError

    def top_up(self, wanted: int, *, queue: str = QUEUE, actor: str = ACTOR) -> int:
        """Bring a queue's waiting hints up to `wanted`; how many were added.

        Raises:
            Exception: one of `errors`; it does not answer.
        """
        raise NotImplementedError


def hint(queue: str = QUEUE, actor: str = ACTOR) -> dramatiq.Message[Any]:
    """A message that says: something is due."""
    return dramatiq.Message(queue_name=queue, actor_name=actor, args=(), kwargs={}, options={})


def is_rabbitmq(url: str) -> bool:
    """Whether a `BROKER_URL` names RabbitMQ."""
    return url.startswith(("amqp://", "amqps://"))
