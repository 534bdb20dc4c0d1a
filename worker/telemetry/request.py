"""The id of the request that is being served: given by the caller or made here, in every line of the log and answer.

It is stored with an event or a job, so that what a worker does hours later in another process bears the same id.
"""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar

HEADER = "X-Request-ID"
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
_HEADER = HEADER.lower().encode()
_IDS = random.Random()  # noqa: S311 - an id is no secret; to ask the system for each hands the interpreter over
"""Seeded by the system. Every process has its own: none is forked once it serves."""
_VALID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~:/+=-]{0,127}")


def read_or_make(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The caller's id if it has 1 to 128 harmless characters, else a new one; what is stored and logged is ASCII."""
    for name, value in headers:
        if name == _HEADER and _VALID.fullmatch(value):
            return value
    return b"%032x" % _IDS.getrandbits(128)


def current() -> str | None:
    """The id of the request that this thread or task serves."""
    return REQUEST_ID.get()
