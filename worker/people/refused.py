"""Requests that were refused at the address of an HR source, counted for the source's page.

Anybody can send them, as many as they like. So they are counted in memory, by source and cause alone, and the counts
are written behind them, at most once a second. What was sent is not kept.
"""

from collections import Counter

from sqlalchemy import Connection

from worker.database import Database
from worker.ledger import hr_sources
from worker.ledger.hr_sources import Refusal
from worker.write_behind import WriteBehind

EVERY = 1.0
"""Seconds between two writes."""


def _write(connection: Connection, counts: Counter[tuple[int, Refusal]]) -> None:
    hr_sources.record_refusals(connection, counts)


_counts = WriteBehind("refused", _write, pause=lambda: EVERY)


def note(database: Database, source_id: int, why: Refusal) -> None:
    """Count a refused request; it is written soon."""
    _counts.note(database, (source_id, why))
