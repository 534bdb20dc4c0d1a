"""Work that waits for the servers of others. It gets few of the threads, so that withdrawals have the rest."""

import threading
import time
from abc import ABC, abstractmethod

from worker.config import Settings
from worker.database import Database

_SECONDS_OF_ONE_RUN = 10.0
"""After these a worker thread turns to withdrawals again. The relay sends a new hint for what is left."""


class SlowWork(ABC):
    """Does what is due, in one thread of a process at a time, so that slow servers do not delay withdrawals."""

    def __init__(self, database: Database, settings: Settings, busy: threading.Semaphore | None = None) -> None:
        """`busy`: shared with others that wait for foreign servers, so that one thread of a process does at most."""
        self._database = database
        self._settings = settings
        self._busy = busy or threading.Semaphore()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Begin no more steps. The one in progress ends within seconds."""
        self._stopping.set()

    def run(self) -> int:
        """Take steps until nothing is due or the time of one run is over. Returns the number of attempts."""
        if not self._busy.acquire(blocking=False):
            return 0
        try:
            started, attempts = time.monotonic(), 0
            while not self._stopping.is_set() and time.monotonic() - started < _SECONDS_OF_ONE_RUN:
                made = self.step()
                if not made:
                    break
                attempts += made
            return attempts
        finally:
            self._busy.release()

    @abstractmethod
    def step(self) -> int:
        """Make what has been due for longest. Returns the number of attempts; 0: nothing is due."""
