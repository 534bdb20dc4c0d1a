"""The relay's part of pruning: once a day, beside its rounds, so that no hint waits for it."""

import time

from worker.background import Background, GoOn
from worker.config import Settings
from worker.database import Database
from worker.reports.prune import kept, prune

_EVERY = 24 * 3600.0
"""Seconds from the end of one prune to the next."""


class DailyPrune:
    """Prunes jobs, receipts and rosters, if the settings say so. The audit is left: the service may not delete from it.

    Two relays may prune at once, when one has lost the lead: each passes over what the other has locked.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._days = kept(settings, "jobs", "receipts", "rosters") if settings.prune_daily else {}
        self._next = 0.0
        self._background = Background("prune", self._prune)

    def has_to_begin(self) -> bool:
        """Whether it is time for a prune."""
        return bool(self._days) and time.monotonic() >= self._next

    def step(self) -> None:
        """Begin a prune if it is time for one, and none goes on.

        Raises:
            Exception: the one that ended the prune before; the next round begins a new one.
        """
        if self._background.is_free() and self.has_to_begin():
            self._background.begin()

    def stop(self) -> None:
        """End after the transaction that runs."""
        self._background.stop()

    def _prune(self, go_on: GoOn) -> None:
        for _ in prune(self._database, self._days, actor="relay"):
            if not go_on():
                return
        self._next = time.monotonic() + _EVERY
