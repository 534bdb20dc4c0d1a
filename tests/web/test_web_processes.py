"""The web server as several processes on one port: started, watched, started again, and ended in order."""

import os
import signal
import socket
import sys
from contextlib import suppress

import httpx2

from tests.support import processes
from tests.world import World, eventually
from worker.config import Settings

WEB = [sys.executable, "-m", "ops", "web"]


def test_several_processes_share_a_port_and_one_that_dies_is_started_again(environment: Settings, world: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def alive() -> set[str]:
        return {str(row[0]) for row in world.run("SELECT id FROM withdrawals.processes WHERE kind = 'web'")}

    def answers() -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        return False

    more = {"WITHDRAWALS_WEB_PROCESSES": "2", "WITHDRAWALS_PORT": str(port)}
    with processes.process(WEB, more) as parent:
        first = eventually(lambda: alive() if len(alive()) == 2 else None)
        eventually(answers)
        child = processes.family(parent.pid)[1]
        os.kill(child, signal.SIGKILL)
        eventually(lambda: alive() - first, what="another one was started")
        assert answers()
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(60) == 0
        assert len(alive()) == 1, "those that ended in order have signed off; the one that was killed could not"
        assert not answers()
