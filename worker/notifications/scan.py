"""What the relay does for notifications: look for what there is to tell, and make messages of it.

Nothing here runs in a transaction that decides something. The relay that leads looks every ten seconds.
"""

from datetime import timedelta

import structlog
from sqlalchemy import Connection

from schemas.notifications import NoticeKind
from worker.config import Settings
from worker.database import Database
from worker.ledger import jobs, notices
from worker.notifications.kinds import KINDS
from worker.notifications.targets import next_digest

log = structlog.get_logger(__name__)

LIFETIME = timedelta(hours=24)
"""For so long a message is tried, then it has failed."""
PAUSE = timedelta(minutes=5)
"""Between two messages to a target that is told at once: what comes meanwhile goes into one."""
OVERLAP = timedelta(minutes=15)
"""How much earlier a look begins than the last: longer than a transaction may run, whose rows bear its start."""
_MOST = 5000
"""Notices that one transaction inserts or deletes."""
_MOST_MESSAGES = 500


class NoticeScan:
    """The relay's step."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def step(self) -> int:
        """Find what is new, and make the messages that are due; how many messages."""
        with self._database.begin() as connection:
            if not notices.any_target(connection):
                return 0
        while _MOST in self._database.run_each(KINDS, self._find, step="notices.find"):
            pass
        made = self._database.run(self._make_messages)
        if made:
            log.info("notification.messages_made", messages=made)
        return made

    def forget(self) -> None:
        """Delete what was kept long enough."""
        keep = timedelta(days=self._settings.webhook_keep_days)
        targets = self._settings.letter_targets
        with self._database.begin() as connection:
            notices.delete_messages(connection, keep=keep, most=_MOST)

        def delete(connection: Connection, kind: NoticeKind) -> None:
            scan = notices.find_scan(connection, kind, targets)
            notices.delete_old(connection, kind, KINDS[kind].find, scan, keep=keep, most=_MOST)

        self._database.run_each(KINDS, delete, step="notices.forget")

    def _find(self, connection: Connection, kind: NoticeKind) -> int:
        notices.lock(connection)
        scan = notices.find_scan(connection, kind, self._settings.letter_targets)
        if scan is None:
            return 0
        found = notices.insert_found(connection, kind, KINDS[kind].find, scan, most=_MOST)
        if found < _MOST:
            notices.record_scan(connection, kind, overlap=OVERLAP)
        return found

    def _make_messages(self, connection: Connection) -> int:
        notices.lock(connection)
        gather = timedelta(seconds=self._settings.notification_gather_seconds)
        waiting = notices.list_waiting(connection, gather=gather, most=_MOST_MESSAGES)
        now = jobs.database_now(connection)
        for one in waiting:
            at_once = one.digest_hour is None
            next_at = now + PAUSE if at_once else next_digest(now, one.digest_hour or 0, one.timezone)
            notices.insert_message(connection, one, next_at=next_at, lifetime=LIFETIME)
        return len(waiting)
