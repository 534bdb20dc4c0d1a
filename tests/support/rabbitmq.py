"""A RabbitMQ node of a test's own, on loopback, with its data in a directory; it needs Debian's `rabbitmq-server`."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pika
import pytest

from tests.support.processes import family
from tests.support.scraping import free_port
from tests.world import eventually

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Debian's own scripts; those in /usr/sbin change to an account of the system."""


class RabbitMq:
    """One node that runs, and can be killed and started again with what it has kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, distribution = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"withdrawals-{uuid4().hex[:8]}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none -start_epmd false -erl_epmd_port {distribution}",
        }
        (directory / "plugins").write_text("[].", encoding="utf-8")
        self.start()

    @property
    def url(self) -> str:
        """For BROKER_URL."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self._directory / "out").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, within=300, what="RabbitMQ answers")

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self._process is not None:
            for pid in family(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def queue_type(self, name: str) -> str:
        """The kind of a queue, from the refusal of one that is declared differently."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            connection.channel().queue_declare(name, passive=True)
            connection.channel().queue_declare(name, durable=True, arguments={"x-max-length": 1000})
        connection.close()
        return "quorum" if "'quorum'" in refused.value.reply_text else str(refused.value.reply_code)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "out").read_text(encoding="utf-8")[-2000:]
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True


@contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitMq]:
    """It runs until the block ends. Without Debian's package the test is skipped, except in CI."""
    if not (PROGRAMS / "rabbitmq-server").exists() or shutil.which("erl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("RabbitMQ is not installed")
        pytest.skip("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    found = RabbitMq(directory)
    try:
        yield found
    finally:
        found.kill()
