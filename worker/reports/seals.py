"""Seal finished days of the audit and the receipts, so that a row that is removed later is missed."""

import structlog

from worker.database import Database
from worker.ledger.books import seals
from worker.ledger.books.seals import Horizon

log = structlog.get_logger(__name__)


class Sealer:
    """Seals in two steps, a look apart: a transaction that began before midnight may still write into the day before.

    What was seen is kept in memory: a relay that is started anew looks again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._horizon: Horizon | None = None

    @property
    def waits(self) -> bool:
        """Whether it has looked, and a day is to be sealed."""
        return self._horizon is not None

    def step(self) -> int:
        """Look whether a day has ended; or seal it, once every transaction of that look has ended. Seals written."""
        if self._horizon is None:
            with self._database.begin() as connection:
                self._horizon = seals.look(connection)
            return 0
        horizon = self._horizon
        with self._database.begin() as connection:
            if not seals.has_passed(connection, horizon):
                return 0
            written = seals.seal(connection, horizon)
        self._horizon = None
        if written:
            log.info("day.sealed", day=horizon.day.isoformat(), seals=written)
        return written
