"""What the relay does for which nobody waits: forget what was kept long enough, and tell what has become overdue."""

import time
from datetime import timedelta

from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk_acts
from worker.jobs.files import uploads
from worker.ledger import acts_alone, brake, brake_series, feed, webhook_deliveries
from worker.notifications.scan import NoticeScan
from worker.people import rosters
from worker.reports import scheduled_files

_OVERDUE_EVERY = 60.0
"""Seconds between two looks for dead letters that have become overdue."""
_FORGET_EVENTS_EVERY = 60.0
"""Seconds between two looks for events of the feed that were kept long enough."""


class Housekeeping:
    """The steps of one relay that are about time alone."""

    def __init__(self, database: Database, settings: Settings, notices: NoticeScan) -> None:
        self._database = database
        self._settings = settings
        self._notices = notices
        self._next_overdue = self._next_forgotten_event = 0.0

    def forget(self) -> None:
        """Delete what was kept long enough, a batch a round."""
        keep = timedelta(days=self._settings.webhook_keep_days)
        with self._database.begin() as connection:
            webhook_deliveries.delete_old(connection, keep=keep)
        with self._database.begin() as connection:
            brake.delete_old(connection)
            brake_series.delete_old(connection)
            acts_alone.delete_old(connection)
        uploads.delete_old(self._database)
        scheduled_files.delete_old(self._database, days=self._settings.report_keep_days)
        rosters.expire(self._database)
        if time.monotonic() >= self._next_forgotten_event:  # it passes over the places of readers each time
            with self._database.begin() as connection:
                feed.delete_old(connection, keep=timedelta(days=self._settings.event_keep_days))
            self._notices.forget()
            self._next_forgotten_event = time.monotonic() + _FORGET_EVENTS_EVERY

    def tell_overdue(self) -> None:
        """Once a minute: hours are the unit of it."""
        if time.monotonic() >= self._next_overdue:
            desk_acts.announce_overdue(self._database, self._settings)
            self._next_overdue = time.monotonic() + _OVERDUE_EVERY
