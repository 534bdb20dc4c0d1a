"""A few rows of a file are corrected: the same file again as CSV, with other cells in these rows."""

import csv
import io
from collections.abc import Mapping
from typing import IO

from worker.jobs.files import rows
from worker.jobs.files.rows import Table
from worker.jobs.files.text import Broken, read_rows

MOST = 20
"""Rows that a page lets somebody correct; with more a spreadsheet is quicker."""


def mend(stream: IO[bytes], changes: Mapping[int, Mapping[str, str]], sink: IO[bytes]) -> None:
    """Write a file with corrections: by line the cells of columns that are read. Every row keeps its line.

    A row whose given cells are all empty is left out.

    Raises:
        InvalidInputError: it is no file of enrolments at all, or too large.
    """
    with rows.opened(stream) as table:
        written = io.TextIOWrapper(sink, encoding="utf-8", errors="replace", newline="")
        _write(written, table, changes)
        written.detach()
    sink.seek(0)


def _write(written: IO[str], table: Table, changes: Mapping[int, Mapping[str, str]]) -> None:
    at = 0
    for row in read_rows(table.stream, table.layout):
        line, said = (row.line, row.raw + "\n") if isinstance(row, Broken) else (row[0], _row(table, *row, changes))
        gap = line - at - said.count("\n")  # of lines that say nothing, so that this one keeps its number
        written.write("\n" * max(gap, 0) + said)
        at = max(line, at + said.count("\n"))


def _row(table: Table, line: int, cells: list[str], changes: Mapping[int, Mapping[str, str]]) -> str:
    given = changes.get(line)
    if given is not None:
        if not any(cell.strip() for cell in given.values()):
            return ""
        places = {place: column for column, place in table.columns.at.items()}
        cells = [given.get(places.get(place, ""), cell) for place, cell in enumerate(cells)]
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerow(cells)
    return made.getvalue()
