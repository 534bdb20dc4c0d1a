"""Keeps what can be found by words as the platform has it: the relay's step.

New rows have the highest ids, and are found in the round after their commit. A pass beside it compares all rows by
rising id, a page at a time, over and over: it finds what was changed, what is gone, and what committed late.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from worker.access import erased
from worker.database import Database
from worker.ledger import findable
from worker.ledger.findable import LEARNER, SERIES, Changed, Page
from worker.one_message import Part
from worker.search.words import RULES, keys_of, words_of

KINDS = (LEARNER, SERIES)
MOST = 1000
"""Rows of a kind that one round writes: about half a second, for which the other steps wait."""
COMPARED = 10_000
"""Rows of a kind that one round of the pass compares."""


class Keeper:
    """How far the relay has looked; one a process. Two may look at once: each page is written under one lock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: dict[str, int] = {}
        self._compared = dict.fromkeys(KINDS, 0)

    def ask_new(self) -> list[Part]:
        """Whether there are new rows; nothing before the first look."""
        return [(findable.ANY_NEW, self._newest)] if self._newest else []

    @property
    def has_looked(self) -> bool:
        """Whether it has looked for new rows already."""
        return bool(self._newest)

    def add_new(self) -> None:
        """Take up rows that the platform has had for less than a round, up to `MOST` of each kind."""
        with self._database.begin() as connection:
            self._newest = self._newest or {kind: findable.highest(connection, kind) for kind in KINDS}
            of_platform = findable.highest_of_platform(connection)
        for kind in KINDS:
            if of_platform[kind] > self._newest[kind]:
                self._newest[kind] = _keep(self._database, kind, after=self._newest[kind], most=MOST).last

    def compare(self) -> None:
        """Go on with the pass, by one page of each kind."""
        for kind in KINDS:
            page = _keep(self._database, kind, after=self._compared[kind], most=COMPARED)
            self._compared[kind] = 0 if page.is_last else page.last


def keep_all(database: Database) -> None:
    """A whole pass at once."""
    for kind in KINDS:
        page = _keep(database, kind, after=0, most=COMPARED)
        while not page.is_last:
            page = _keep(database, kind, after=page.last, most=COMPARED)


def _keep(database: Database, kind: str, *, after: int, most: int) -> Page:
    def work(connection: Connection) -> Page:
        findable.lock(connection)
        findable.use_indexes(connection)
        page = findable.read_page(connection, kind, after=after, most=most, rules=RULES).cut(MOST)
        kept = _without_erased(connection, page.changed) if kind == LEARNER else page.changed
        rows = [(row, keys_of(row.organisation_id, kind, words_of(row.names))) for row in kept]
        findable.write(connection, kind, rows)
        findable.delete_gone(connection, kind, after=after, until=page.until)
        return page

    return database.run(work)


def _without_erased(connection: Connection, changed: Sequence[Changed]) -> Sequence[Changed]:
    """The learners but for those who were erased, and whom the platform still has (decision record 0038)."""
    sealed = findable.list_erasure_keys(connection, sorted({row.organisation_id for row in changed}))
    for organisation_id, key in sealed.items():
        own = [row.external_id for row in changed if row.organisation_id == organisation_id]
        gone = erased.list_gone(connection, organisation_id, key, own)
        changed = [row for row in changed if row.organisation_id != organisation_id or row.external_id not in gone]
    return changed
