"""What the relay does for which nobody waits: forget what was kept long enough, and tell what has become overdue."""

import time
from datetime import timedelta

from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk_acts
from worker.jobs.files import uploads
from worker.ledger import acts_alone, brake, brake_series, feed, report_files, webhook_deliveries
from worker.ledger import rosters as ledger_rosters
from worker.ledger import uploads as ledger_uploads
from worker.notifications.scan import NoticeScan
from worker.one_message import Part
from worker.people import rosters
from worker.reports import scheduled_files

_EVERY = 60.0
"""Seconds between two looks for dead letters that have become overdue, and for what the brake and the feed forget."""


class Housekeeping:
    """The steps of one relay that are about time alone."""

    def __init__(self, database: Database, settings: Settings, notices: NoticeScan) -> None:
        self._database = database
        self._keep_deliveries = timedelta(days=settings.webhook_keep_days)
        self._keep_files = timedelta(days=settings.report_keep_days)
        self._settings = settings
        self._notices = notices
        self._next_overdue = self._next_past = 0.0

    def ask_old(self) -> list[Part]:
        """Whether `forget` has something to delete."""
        return [
            (webhook_deliveries.ANY_OLD, {"keep": self._keep_deliveries}),
            (ledger_uploads.ANY_OLD, {"keep": uploads.KEPT}),
            (report_files.ANY_OLD, {"keep": self._keep_files}),
            (ledger_rosters.ANY_OLD, {"keep": rosters.KEPT}),
        ]

    def has_to_forget(self) -> bool:
        """Whether it is time for what `forget` looks for once a minute."""
        return time.monotonic() >= self._next_past

    def forget(self) -> None:
        """Delete what was kept long enough, a batch a round."""
        with self._database.begin() as connection:
            webhook_deliveries.delete_old(connection, keep=self._keep_deliveries)
        uploads.delete_old(self._database)
        scheduled_files.delete_old(self._database, days=self._settings.report_keep_days)
        rosters.expire(self._database)
        if self.has_to_forget():  # it passes over the places of readers each time
            with self._database.begin() as connection:
                brake.delete_old(connection)
                brake_series.delete_old(connection)
                acts_alone.delete_old(connection)
            with self._database.begin() as connection:
                feed.delete_old(connection, keep=timedelta(days=self._settings.event_keep_days))
            self._notices.forget()
            self._next_past = time.monotonic() + _EVERY

    def has_to_tell(self) -> bool:
        """Whether it is time for `tell_overdue`."""
        return time.monotonic() >= self._next_overdue

    def tell_overdue(self) -> None:
        """Once a minute: hours are the unit of it."""
        if self.has_to_tell():
            desk_acts.announce_overdue(self._database, self._settings)
            self._next_overdue = time.monotonic() + _EVERY
