"""The relay's part of scheduled reports: beside its rounds, because a large file takes minutes."""

import threading

from worker.config import Settings
from worker.database import Database
from worker.ledger import report_files
from worker.reports import scheduled_files, schedules

_PATIENCE = 2.0
"""Seconds for which a relay that stops waits for the file that is being made; another makes it again."""


class ReportMaker:
    """Turns schedules whose time has come into runs, and makes their files in a thread of its own.

    Two relays may do so at once, when one has lost the lead: a file that one has claimed is passed over by the other.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failed: Exception | None = None

    def step(self) -> None:
        """Plan what is due, and begin if no file is being made.

        Raises:
            Exception: the one that has ended the thread before; the next round begins a new one.
        """
        schedules.plan_due(self._database)
        if self._thread is not None and self._thread.is_alive():
            return
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        with self._database.begin() as connection:
            is_due = report_files.any_due(connection)
        if is_due:
            self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give back the file that is being made."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            scheduled_files.make_due(self._database, self._settings, go_on=lambda: not self._stopping.is_set())
        except Exception as error:  # raised again in the round, which logs and counts it
            self._failed = error
