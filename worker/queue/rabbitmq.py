"""Hints over RabbitMQ: dramatiq's broker on quorum queues, and nothing of what it adds for retries and delays.

Quorum queues keep hints on a majority of the cluster's nodes and need no policy. The queues of delayed and of failed
messages are not made: nothing here is delayed, and the truth about failures is in PostgreSQL. RabbitMQ pushes hints to
waiting consumers, so no doorbell is needed. The queues are `due` and `webhooks`, in a virtual host of their own.
"""

import logging
import socket
import ssl
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
from dramatiq.errors import ConnectionClosed

from worker.errors import SettingsError
from worker.queue.hints import ACTOR, QUEUE, QUEUES, TIMEOUT, Hints, hint

try:
    import pika
    from dramatiq.brokers.rabbitmq import RabbitmqBroker
    from pika.exceptions import AMQPError
except ImportError:
    raise SettingsError("BROKER_URL: amqp:// needs one more package: pip install 'withdrawals[rabbitmq]'") from None

logging.getLogger("pika").setLevel(logging.CRITICAL)  # it tells each failure six times; the service tells it once

HEARTBEAT = 10
"""Seconds between two signs of life of a connection; without two in a row it is closed, by either side."""
_TCP = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""So that the system ends a connection to a host that vanished."""

_MOST = 1000
"""Hints that a queue keeps. What was published is counted a moment later, so a few more than wanted may be added."""


class RabbitmqHintBroker(RabbitmqBroker, Hints):
    """Hints in two quorum queues. Each thread has a connection of its own."""

    errors = (AMQPError, ConnectionClosed, OSError)

    def ping(self) -> None:
        """Connect and leave again: a connection that nobody serves would be closed for its silence."""
        pika.BlockingConnection(self.parameters).close()

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue without its delay queue; `ensure`: on the server, if this process has not yet."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)

    def top_up(self, wanted: int, *, queue: str = QUEUE, actor: str = ACTOR) -> int:
        """Bring a queue's waiting hints up to `wanted`; those that consumers hold do not count."""
        missing = wanted - self._count_waiting(queue)
        for _ in range(missing):
            self.enqueue(hint(queue, actor))
        return max(missing, 0)

    def _count_waiting(self, queue: str) -> int:
        """Declare the queue, which also tells its length. A connection that fell silent is made again, once."""
        for attempt in (1, 2):
            try:
                return int(self._declare_queue(queue).method.message_count)
            except AMQPError:
                del self.connection
                if attempt == 2:
                    raise
        raise AssertionError("the second attempt returns or raises")

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {"x-queue-type": "quorum", "x-max-length": _MOST}

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Nothing is delayed."""

    def _declare_xq_queue(self, queue_name: str) -> None:
        """A hint that failed is dropped."""


def make_rabbitmq(url: str, middleware: list[dramatiq.Middleware] | None = None) -> RabbitmqHintBroker:
    """A broker without dramatiq's own retries, delays and limits. It connects when it is first used.

    `url`: `amqp://` or `amqps://`, those of several nodes with semicolons between. The query may name
    `ssl_ca_certs`, a file with the authorities that are believed.

    Raises:
        SettingsError: the URL cannot be read. The message does not quote it: it may hold a password.
    """
    # No confirmations: a quorum queue that has no leader yet gives none, and whoever waits for one waits for ever.
    broker = RabbitmqHintBroker(middleware=middleware or [])
    broker.parameters = [_parameters(part.strip()) for part in url.split(";") if part.strip()]
    for queue in QUEUES:
        broker.declare_queue(queue)
    return broker


def _parameters(url: str) -> Any:
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        authorities = query.pop("ssl_ca_certs", None)
        parameters = pika.URLParameters(urlunsplit(parts._replace(query=urlencode(query))))
    except (ValueError, TypeError):
        raise SettingsError("BROKER_URL: cannot be read. Example: amqp://user:password@host:5672/withdrawals") from None
    if parts.scheme == "amqps":
        try:
            context = ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise SettingsError(f"BROKER_URL: ssl_ca_certs: {error.strerror or 'cannot be read'}") from None
        parameters.ssl_options = pika.SSLOptions(context, parts.hostname)
    parameters.heartbeat = HEARTBEAT
    parameters.blocked_connection_timeout = TIMEOUT
    parameters.socket_timeout = TIMEOUT
    parameters.stack_timeout = 2 * TIMEOUT
    parameters.connection_attempts = 1
    parameters.tcp_options = {name: value for name, value in _TCP.items() if hasattr(socket, name)}
    return parameters
