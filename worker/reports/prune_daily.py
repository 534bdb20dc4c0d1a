"""The relay's part of pruning: once a day, beside its rounds, so that no hint waits for it."""

import threading
import time

from worker.config import Settings
from worker.database import Database
from worker.reports.prune import kept, prune

_EVERY = 24 * 3600.0
"""Seconds from the end of one prune to the next."""
_PATIENCE = 2.0
"""Seconds for which a relay that stops waits for the transaction that runs; the next prune repeats what it loses."""


class DailyPrune:
    """Prunes jobs, receipts and rosters, if the settings say so. The audit is left: the service may not delete from it.

    Two relays may prune at once, when one has lost the lead: each passes over what the other has locked.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._days = kept(settings, "jobs", "receipts", "rosters") if settings.prune_daily else {}
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failed: Exception | None = None

    def step(self) -> None:
        """Begin a prune if it is time for one.

        Raises:
            Exception: the one that ended the prune before; the next round begins a new one.
        """
        if not self._days or (self._thread is not None and self._thread.is_alive()):
            return
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        if time.monotonic() >= self._next:
            self._thread = threading.Thread(target=self._run, name="prune", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the transaction that runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            for _ in prune(self._database, self._days, actor="relay"):
                if self._stopping.is_set():
                    return
        except Exception as error:  # raised again in the round, which logs and counts it
            self._failed = error
        else:
            self._next = time.monotonic() + _EVERY
