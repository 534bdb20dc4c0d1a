"""Hints over a real RabbitMQ: quorum queues, filled to what is wanted, made again when somebody deletes them."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pika
import pytest
from limits.storage import memory

from tests.support.hints import consumed
from tests.support.rabbitmq import rabbitmq
from tests.world import eventually
from worker.config import Settings
from worker.errors import SettingsError
from worker.queue.broker import open_broker
from worker.queue.hints import QUEUE, WEBHOOKS_QUEUE
from worker.queue.rabbitmq import make_rabbitmq
from worker.web.rate_limits import RateLimiter


def test_hints_go_through_quorum_queues_that_are_filled_to_what_is_wanted() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="withdrawals-broker-", ignore_cleanup_errors=True) as place,
        rabbitmq(Path(place)) as server,
    ):
        broker = open_broker(server.url)
        broker.ping()
        assert broker.top_up(2) == 2
        eventually(lambda: broker.top_up(2) == 0, what="the two are counted, and no more are added")
        assert [server.queue_type(name) for name in (QUEUE, WEBHOOKS_QUEUE)] == ["quorum", "404"]
        with consumed(open_broker(server.url)) as arrived:
            arrived(2)
            connection = pika.BlockingConnection(pika.URLParameters(server.url))
            connection.channel().queue_delete(QUEUE)
            connection.close()
            arrived(1, keep=broker)
        server.kill()
        with pytest.raises(broker.errors):
            broker.top_up(1)
        with pytest.raises(broker.errors):
            broker.ping()
        broker.close()


def test_its_url_may_name_several_nodes_and_an_authority_and_is_not_quoted() -> None:
    broker = make_rabbitmq("amqp://u:secret@one/w;amqps://u:secret@two:5000/w")
    assert [(one.host, one.port, bool(one.ssl_options)) for one in broker.parameters] == [
        ("one", 5672, False),
        ("two", 5000, True),
    ]
    for wrong in ("amqps://u:secret@one/w?ssl_ca_certs=/nowhere", "amqp://u:secret@one:port/w"):
        with pytest.raises(SettingsError, match="BROKER_URL") as refused:
            make_rabbitmq(wrong)
        assert "secret" not in str(refused.value)


def test_without_redis_each_web_process_counts_refused_calls(
    environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its windows are minutes of the clock: between the last moment of one and the next, a second call would pass.
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: 60_000_030.0))
    limits = RateLimiter("amqp://nobody")
    assert [limits.retry_after("one", 1) is None for _ in range(2)] == [True, False]
