"""Sends a message by Apprise, in a process of its own that is ended when its time is over (`child.py`)."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import ConflictError, InvalidInputError
from worker.notifications import child
from worker.notifications.addresses import OPTIONS
from worker.notifications.messages import Message
from worker.texts import text

SECONDS = 20.0
"""Time limit of one message: start, name, connection, TLS, sign-in, answer."""
GRACE = 5.0
"""Seconds of it that are left once the worker is told to end."""
_TAKEN_OVER = ("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
"""Of the environment: it gets none of the service's secrets, and no proxy."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses a message may be sent to, besides those of the public internet."""

    networks: Sequence[str] = ()
    anywhere: bool = False
    """The operator has chosen the server."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What Apprise makes of a URL."""

    shown: str
    """Without its secrets."""
    receivers: int


def look_at(url: str) -> Seen:
    """What Apprise makes of a URL. Nothing is connected to.

    Raises:
        InvalidInputError: nothing; the message does not quote it.
        ConflictError: it could not be looked at just now.
    """
    answer = _run({"url": url, "options": OPTIONS, "anywhere": False}, threading.Event())
    if "option" in answer:
        raise InvalidInputError(
            text(
                "url: unknown option {given!r}. Use one of: {allowed}.",
                given=answer["option"],
                allowed=", ".join(OPTIONS),
            )
        )
    if answer.get("error") == child.UNREADABLE:
        raise InvalidInputError(
            text("url: not complete for this service. https://appriseit.com/services says what it needs.")
        )
    if "error" in answer:
        raise ConflictError(text("url: could not be looked at just now. Try again."))
    mails = answer["mails"]
    return Seen(f"mail to {', '.join(mails)}" if mails is not None else str(answer["shown"]), int(answer["receivers"]))


def send(url: str, message: Message, *, message_id: str, reach: Reach, stopping: threading.Event) -> str | None:
    """Send a message; None once it was taken in, else why not, in a few words without secrets."""
    task = {"url": url, "title": message.title, "body": message.body, "message_id": message_id, "options": OPTIONS}
    answer = _run({**task, "networks": [one for one in reach.networks if one], "anywhere": reach.anywhere}, stopping)
    return answer.get("error")


def _run(task: dict[str, Any], stopping: threading.Event) -> dict[str, Any]:
    environment = {name: os.environ[name] for name in _TAKEN_OVER if name in os.environ}
    running = subprocess.Popen(
        [sys.executable, "-I", str(Path(child.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    answer, unsent = "", json.dumps(task)
    deadline = time.monotonic() + SECONDS
    try:
        while True:
            try:
                answer, _ = running.communicate(unsent or None, timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                unsent = ""
                if stopping.is_set():
                    deadline = min(deadline, time.monotonic() + GRACE)
                    stopping = threading.Event()
                if time.monotonic() > deadline:
                    return {"error": "timed out"}
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                stream.close()
    try:
        found = json.loads(answer)
    except ValueError:
        return {"error": f"{child.NOT_SENT} (the process ended with {running.returncode})"}
    return found if isinstance(found, dict) else {"error": child.NOT_SENT}
