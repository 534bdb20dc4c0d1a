"""A process whose clock is wrong, as on a machine without a time service."""

import ctypes
import datetime
import gc
import time
from pathlib import Path
from typing import Any

SITE = Path(__file__).parent / "chaos_site"


def environment(seconds: float) -> dict[str, str]:
    """Variables for a child process whose clock is ahead by so many seconds, or behind if negative."""
    return {"PYTHONPATH": str(SITE), "CHAOS_CLOCK": str(seconds)}


def shift(seconds: float) -> None:
    """Set the clock of this process ahead, for everything that asks Python for the time.

    The monotonic clock stays: no machine's goes wrong. `datetime` itself is changed, not replaced by a subclass:
    the driver looks up how to send a value by its class.
    """
    real_time, real_time_ns, real_gmtime, real_localtime = time.time, time.time_ns, time.gmtime, time.localtime
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)
    time.gmtime = lambda at=None: real_gmtime(time.time() if at is None else at)
    time.localtime = lambda at=None: real_localtime(time.time() if at is None else at)
    real_now = datetime.datetime.now

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return real_now(tz) + datetime.timedelta(seconds=seconds)

    def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
        return now(cls, datetime.UTC).replace(tzinfo=None)

    def today(cls: type[datetime.date]) -> datetime.date:
        return now(datetime.datetime).date()

    _replace(datetime.datetime, now=classmethod(now), utcnow=classmethod(utcnow))
    _replace(datetime.date, today=classmethod(today))


def _replace(of: type, **members: Any) -> None:
    """Set members of a class that is written in C: its own dictionary is the one that its proxy refers to."""
    found = gc.get_referents(of.__dict__)[0]
    found.update(members)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(of))
