"""The rows of a file in tables of a transaction: read, looked up, and those with faults written to a file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from sqlalchemy import Connection

from schemas import answers
from worker.jobs.files.faults import (
    SHOWN,
    Faults,
    columns_of,
    describe,
    faulty_rows,
    lookup_fault,
    merge,
    unguarded,
)
from worker.jobs.files.near_misses import Known, find_near
from worker.jobs.files.rows import Table
from worker.jobs.selection import Counts, Selection, digest
from worker.ledger import file_rows, freeze
from worker.ledger import plan as ledger_plan
from worker.ledger.file_rows import RowFault
from worker.ledger.plan import Preview
from worker.records import NewChunks
from worker.texts import text

_MOST_UNKNOWN, _MOST_KNOWN = 20, 2_000
"""Series codes of a file that no Series has, and Series that they are compared with: half a second at the most."""
LONGEST_VALUE = 80
"""Characters of a faulty value that a page shows."""


@dataclass(slots=True)
class Staged:
    """A file whose rows stand in tables of this transaction.

    `good`: rows that name an enrolment; `taken`: those of them that an earlier job of the batch has taken.
    """

    table: Table
    count: int
    faults: Faults
    sha256: str
    good: int
    taken: int = 0
    is_looked_up: bool = field(default=False)
    near: dict[str, Known] = field(default_factory=dict)
    """By Series code that no Series has: which one may have been meant."""

    @property
    def content(self) -> dict[str, str]:
        """What the idempotency key knows the file by."""
        return {f"sha256_of_{'rows' if self.table.columns.has_lookup else 'ids'}": self.sha256}

    def explain(self, found: RowFault) -> answers.FileFault:
        """The fault of a row that was looked up in vain, with what may have been meant."""
        is_unknown = found.code == "unknown_series"
        return lookup_fault(found.line, found.code, self.near.get(found.series_code or "") if is_unknown else None)


class StagedRows(Selection):
    """The ids of a staged file; the lines they stood on are kept."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged

    def digest(self) -> str:
        return digest("rows" if self._staged.table.columns.has_lookup else "ids", self._staged.sha256)

    def preview(self, connection: Connection, organisation_id: int) -> Preview:
        return ledger_plan.by_staged(connection, organisation_id)

    def freeze(self, connection: Connection, chunks: NewChunks) -> Counts:
        return self.count(freeze.staged(connection, chunks))

    def count(self, accepted: int) -> Counts:
        return Counts(accepted, self._staged.good - accepted)


class FaultyRow(NamedTuple):
    """What stands in a row where its fault is, and in each column that is read; nothing where columns are missing."""

    value: str
    cells: dict[str, str]


def stage(connection: Connection, table: Table) -> Staged:
    """Read all rows into a table of this transaction; what is wrong with them by themselves is counted.

    Raises:
        InvalidInputError: the file has no rows or too many, or is no text from some line on.
    """
    faults = Faults()
    read = table.rows(faults)
    if table.columns.has_lookup:
        file_rows.stage_asked(connection, read.asked())
        if not read.count:
            raise freeze.NoRowsError(text("the file has no rows; it needs at least one enrolment"))
        return Staged(table, read.count, faults, read.sha256, read.count - faults.count)
    try:
        good, sha256 = freeze.stage(connection, read.ids())
    except freeze.NoRowsError:
        if not faults.count:
            raise
        good, sha256 = 0, ""
    return Staged(table, read.count, faults, sha256, good)


def look_up(connection: Connection, organisation_id: int, staged: Staged, batch: int | None) -> None:
    """Find the enrolments of rows that name none by id, and take out what the batch has taken."""
    if staged.table.columns.has_lookup:
        found = file_rows.look_up(connection, organisation_id, batch=batch)
        staged.good, staged.is_looked_up = found.good, True
        if found.faulty:
            unknown = file_rows.list_unknown_series(connection, _MOST_UNKNOWN)
            if unknown:
                known = file_rows.list_series(connection, organisation_id, _MOST_KNOWN)
                staged.near = find_near(unknown, [Known(*one) for one in known])
            first = [staged.explain(one) for one in file_rows.list_faults(connection, SHOWN)]
            staged.faults.add_found(found.faulty, first)
    if batch is not None:
        staged.taken = file_rows.drop_taken(connection, organisation_id, batch)


def write_faults(connection: Connection, staged: Staged, sink: IO[bytes] | None) -> list[FaultyRow]:
    """Write the rows with faults; what stands in the first of them."""
    first = list[FaultyRow]()
    if sink is None or not staged.faults.count:
        return first
    found = map(staged.explain, file_rows.stream_faults(connection)) if staged.is_looked_up else iter(())
    table = staged.table
    with faulty_rows(table.kind, sink, table.columns.header, table.layout) as writer:
        for cells, fault in merge(_parsed(table), found):
            writer.add(cells, describe(fault, table.columns.named))
            if len(first) < SHOWN:
                first.append(_read_faulty(cells, fault, table))
    sink.seek(0)
    return first


def _read_faulty(cells: list[str], fault: answers.FileFault, table: Table) -> FaultyRow:
    read = {column: unguarded(cells[place]).strip() for column, place in table.columns.at.items() if place < len(cells)}
    called = columns_of(fault, table.columns.named) if fault.column else []
    found = (cell for column, cell in read.items() if table.columns.named[column] in called)
    is_whole = len(cells) == table.columns.width
    return FaultyRow(next(filter(None, found), "")[:LONGEST_VALUE], read if is_whole else {})


def _parsed(table: Table) -> Iterator[tuple[int, list[str], answers.FileFault | None]]:
    for line, cells, found in table.read_all():
        if line in table.left_out:
            continue
        yield line, cells, found if isinstance(found, answers.FileFault) else None
