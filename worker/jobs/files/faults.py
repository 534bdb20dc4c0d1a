"""What is wrong with rows: each fault by its line, and the rows that have one as a file to mend and send again.

A fault names no learner: it may be shown and logged.
"""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from schemas.answers import FileFault
from worker.errors import InvalidInputError
from worker.jobs.files.columns import LEARNER, PROBLEM, WHO, is_formula, meaning
from worker.jobs.files.near_misses import Known
from worker.jobs.files.text import Layout
from worker.texts import joined, text

SHOWN = 100
"""Faults that an answer lists; all of them are counted, and stand in the file of faults."""

LOOKUP = {
    "unknown_learner": ("learner", text("no learner here has this id or email address.")),
    "several_learners": ("learner", text("several learners have this email address. Give the learner's id.")),
    "other_learner": ("learner", text("the id and the email address belong to different learners.")),
    "unknown_series": ("series_code", text("this organisation has no Series with this code.")),
    "several_series": ("series_code", text("several Series have this code. Give the enrolment_id.")),
    "unknown_pathway": ("pathway", text("this organisation has no Learning Pathway with this title.")),
    "not_enrolled": ("series_code", text("the learner is not enrolled in this Series.")),
    "not_in_pathway": ("pathway", text("the learner is not enrolled in this Series by this Learning Pathway.")),
    "several_enrolments": (
        "pathway",
        text("the learner has several active enrolments in this Series. Give the pathway, or the enrolment_id."),
    ),
}  # fmt: skip
"""Column and message of each fault that only the platform's tables show."""


@dataclass(slots=True)
class Faults:
    """How many there are, and the first of them by line."""

    count: int = 0
    first: list[FileFault] = field(default_factory=list)

    def add(self, fault: FileFault) -> None:
        """Count one; it is kept if it is among the first."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(fault)

    def add_found(self, count: int, first: Sequence[FileFault]) -> None:
        """Count those that the platform's tables have shown, of which the first are given."""
        self.count += count
        self.first = sorted([*self.first, *first], key=lambda fault: fault.line)[:SHOWN]


class FileFaultsError(InvalidInputError):
    """Rows of the file are wrong, so that nothing of it was accepted."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(_say(faults.first[0], faults.count - 1))
        self.faults = faults
        self.more = {"fault_count": faults.count, "faults": [fault.model_dump() for fault in faults.first]}


def _say(first: FileFault, others: int) -> str:
    values = {"line": first.line, "fault": first.text, "others": others}
    if others == 0:
        return text("Line {line}: {fault}", **values)
    if others == 1:
        return text("Line {line}: {fault} {others:,} more line has a fault.", **values)
    return text("Line {line}: {fault} {others:,} more lines have a fault.", **values)


def lookup_fault(line: int, code: str, near: Known | None = None) -> FileFault:
    """The fault of a row that was looked up. `near`: the Series that may have been meant."""
    column, message = LOOKUP[code]
    if near is None:
        return FileFault(line=line, column=column, message=message)
    return FileFault(line=line, column=column, message=joined([message, near.question]), suggestion=near.code)


def columns_of(fault: FileFault, columns: Mapping[str, str]) -> list[str]:
    """The names in the file of what a fault is about. `columns`: those that are read, with their names in the file."""
    if fault.column is None:
        return []
    meant = WHO if fault.column == LEARNER else (fault.column,)
    return [columns[name] for name in meant if name in columns] or [fault.column]


def describe(fault: FileFault, columns: Mapping[str, str]) -> str:
    """What the file of faults says beside a row, in the words of the file."""
    called = " / ".join(columns_of(fault, columns))
    if called:
        return text("Line {line}: {column}: {fault}", line=fault.line, column=called, fault=fault.message)
    return text("Line {line}: {fault}", line=fault.line, fault=fault.message)


class FaultyRows(ABC):
    """Writes the rows that have a fault: the columns as they came, and one that says what is wrong."""

    def __init__(self, header: Sequence[str]) -> None:
        self._width = len(header)
        self._kept = [place for place, name in enumerate(header) if meaning(name) != PROBLEM]

    def add(self, cells: Sequence[str], problem: str) -> None:
        """Write one row, or the header; the answer to an earlier file of faults is left out."""
        padded = [*cells, *[""] * (self._width - len(cells))]
        self._write([*(padded[place] for place in self._kept), *padded[self._width :], problem])

    @abstractmethod
    def _write(self, cells: Sequence[str]) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Write what is left; the sink stays open."""


class _Csv(FaultyRows):
    """UTF-8 with a byte order mark, so that every spreadsheet shows the letters rightly. A cell that a spreadsheet
    would evaluate gets an apostrophe in front, which is taken off when the file is read again."""

    def __init__(self, sink: IO[bytes], header: Sequence[str], layout: Layout) -> None:
        super().__init__(header)
        self._text = io.TextIOWrapper(sink, encoding="utf-8-sig", errors="replace", newline="")
        if layout.has_sep:
            self._text.write(f"sep={layout.delimiter}\r\n")
        self._writer = csv.writer(self._text, delimiter=layout.delimiter)

    def _write(self, cells: Sequence[str]) -> None:
        self._writer.writerow([guarded(cell) for cell in cells])

    def close(self) -> None:
        self._text.detach()


class _Sheet(FaultyRows):
    """XLSX with nothing but text: as CSV, a spreadsheet would read an external id `00123` as the number 123."""

    def __init__(self, sink: IO[bytes], header: Sequence[str]) -> None:
        super().__init__(header)
        import xlsxwriter  # noqa: PLC0415 - only this format needs it

        self._book = xlsxwriter.Workbook(sink, {"constant_memory": True})
        self._sheet = self._book.add_worksheet("Faults")
        self._row = 0

    def _write(self, cells: Sequence[str]) -> None:
        for place, cell in enumerate(cells[:_SHEET_COLUMNS]):
            if cell:
                self._sheet.write_string(self._row, place, cell[:_LONGEST_CELL])
        self._row += 1

    def close(self) -> None:
        self._book.close()


def faults_suffix(kind: str) -> str:
    """How the name of the file of faults ends: CSV for CSV, else XLSX."""
    return "csv" if kind == "csv" else "xlsx"


@contextmanager
def faulty_rows(kind: str, sink: IO[bytes], header: Sequence[str], layout: Layout) -> Iterator[FaultyRows]:
    """Write rows with faults in the format that `faults_suffix` has for the file."""
    writer = _Csv(sink, header, layout) if faults_suffix(kind) == "csv" else _Sheet(sink, header)
    writer.add(header, PROBLEM)
    try:
        yield writer
    finally:
        writer.close()


_SHEET_COLUMNS, _LONGEST_CELL = 16_384, 32_000
"""What a sheet can hold: columns, and characters of a cell."""


def guarded(cell: str) -> str:
    """A cell that no spreadsheet evaluates."""
    return f"'{cell}" if is_formula(cell) else cell


def unguarded(cell: str) -> str:
    """A cell without the apostrophe that keeps a spreadsheet from evaluating it."""
    return cell[1:] if cell[:1] == "'" and is_formula(cell[1:]) else cell


def merge(parsed: Iterator[tuple[int, list[str], FileFault | None]], found: Iterator[FileFault]) -> Iterator[
    tuple[list[str], FileFault]
]:  # fmt: skip
    """The rows with a fault: those that were wrong when they were read, and those that were looked up in vain.

    `parsed`: every row by line, with its fault if it has one; `found`: the faults of rows that were looked up, by line.
    """
    looked_up = next(found, None)
    for at, cells, fault in parsed:
        if fault is not None:
            yield cells, fault
        while looked_up is not None and looked_up.line <= at:
            if looked_up.line == at and fault is None:
                yield cells, looked_up
            looked_up = next(found, None)
