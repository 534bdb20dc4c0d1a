"""The limit for each Series while jobs are admitted one after the other: the window is read once for all of them."""

from typing import Any

from sqlalchemy import Connection

from worker.brake_limits import Brake, SeriesOf, part_figures
from worker.ledger import brake_series


class SeriesWindow:
    """What has been used of the window by each Series of an organisation; nothing is read where there is no limit."""

    def __init__(self, connection: Connection, organisation_id: int, limits: Brake) -> None:
        """The caller has locked the organisation's settings row, unless it only looks."""
        self._connection = connection
        self._organisation_id = organisation_id
        self._limits = limits
        self._used: dict[int, int] = {}

    def find_past(self, series_of: SeriesOf) -> dict[str, Any] | None:
        """The figures of the Series that a job would take furthest past the limit; None: of none."""
        limit = self._limits.of_series
        if limit is None or not series_of:
            return None
        unread = series_of.keys() - self._used.keys()
        if unread:
            found = brake_series.used(self._connection, self._organisation_id, self._limits.hours, unread)
            self._used |= {one: found.get(one, 0) for one in unread}
        series_id = max(series_of, key=lambda one: self._used[one] + series_of[one])
        learners, before = series_of[series_id], self._used[series_id]
        if before + learners <= limit:
            return None
        code = brake_series.find_code(self._connection, self._organisation_id, series_id)
        hours = self._limits.hours
        return part_figures(f"Series {code}", learners=learners, before=before, limit=limit, hours=hours)

    def add(self, series_of: SeriesOf) -> None:
        """Count a job that was admitted in this transaction, and is not written yet."""
        for series_id in series_of.keys() & self._used.keys():
            self._used[series_id] += series_of[series_id]
