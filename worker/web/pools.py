"""The connections of a web process, in pools of their own: what is slow takes none from what must be quick."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.config import Settings
from worker.database import BY_ORDER, Database
from worker.reports.reader import ReportReader

RETRY_SECONDS = 3.0
"""After that a waiting caller gets 503 with Retry-After."""


@dataclass(frozen=True, slots=True)
class Pools:
    """Connections by what they are for."""

    requests: Database
    """Everything else: reads, acts on jobs and letters, the console."""
    door: Database
    """What must always be taken in: HR events and small jobs, and who sends them."""
    reports: Database
    """What reads much: exports without a replica, and plans."""
    watchers: Database
    """The one question that all who watch jobs share."""
    reader: ReportReader
    """What may be a moment old: exports and summaries, from a replica if there is one."""

    @classmethod
    def open(cls, settings: Settings) -> "Pools":
        """The pools of a web process, as large as the settings say."""

        def pool(name: str, size: int, planner_off: Sequence[str] = ()) -> Database:
            made = Database(settings, pool_size=size, retry_seconds=RETRY_SECONDS, planner_off=planner_off)
            made.show_use(name)
            return made

        reports = pool("reports", settings.report_connections)
        return cls(
            pool("requests", settings.web_connections),
            pool("door", settings.door_connections, BY_ORDER),
            reports,
            pool("watchers", 1),
            ReportReader.open(settings, reports, pool_size=settings.report_connections),
        )

    @classmethod
    def of(cls, database: Database) -> "Pools":
        """One pool for everything, where nobody starves anybody: in tests."""
        return cls(database, database, database, database, ReportReader(database))

    def close(self) -> None:
        """Close every connection."""
        self.reader.close()
        for pool in (self.door, self.requests, self.reports, self.watchers):
            pool.close()
