"""The relay's part of scheduled reports: beside its rounds, because a large file takes minutes."""

from worker.background import Background, GoOn
from worker.config import Settings
from worker.database import Database
from worker.ledger import report_files
from worker.reports import scheduled_files, schedules


class ReportMaker:
    """Turns schedules whose time has come into runs, and makes their files.

    Two relays may do so at once, when one has lost the lead: a file that one has claimed is passed over by the other.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._background = Background("reports", self._make)

    def step(self) -> None:
        """Plan what is due, and begin if no file is being made.

        Raises:
            Exception: the one that has ended the work before; the next round begins anew.
        """
        schedules.plan_due(self._database)
        if not self._background.is_free():
            return
        with self._database.begin() as connection:
            is_due = report_files.any_due(connection)
        if is_due:
            self._background.begin()

    def stop(self) -> None:
        """Give back the file that is being made."""
        self._background.stop()

    def _make(self, go_on: GoOn) -> None:
        scheduled_files.make_due(self._database, self._settings, go_on=go_on)
