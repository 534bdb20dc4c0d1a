"""A few rows of a file are corrected: the same file again as CSV, with other cells in these rows."""

import csv
import io
from collections.abc import Mapping
from typing import IO

from worker.jobs.files import rows
from worker.jobs.files.faults import unguarded
from worker.jobs.files.rows import Table
from worker.jobs.files.text import Broken, read_rows

MOST = 20
"""Rows that a page lets somebody correct; with more a spreadsheet is quicker."""


def mend(stream: IO[bytes], changes: Mapping[int, Mapping[str, str]], sink: IO[bytes]) -> tuple[list[int], list[int]]:
    """Write a file with corrections: by line the cells of columns that are read. Every row keeps its line.

    A row is left out that has no cell given, or only empty ones where it had others. Returns the lines left out, and
    those corrected.

    Raises:
        InvalidInputError: it is no file of enrolments at all, or too large.
    """
    with rows.opened(stream) as table:
        written = io.TextIOWrapper(sink, encoding="utf-8", errors="replace", newline="")
        done = _write(written, table, changes)
        written.detach()
    sink.seek(0)
    return done


def _write(written: IO[str], table: Table, changes: Mapping[int, Mapping[str, str]]) -> tuple[list[int], list[int]]:
    left_out, corrected = list[int](), list[int]()
    places = {place: column for column, place in table.columns.at.items()}
    at = 0
    for row in read_rows(table.stream, table.layout):
        if isinstance(row, Broken):
            line, said = row.line, row.raw + "\n"
        else:
            line, cells = row
            given = changes.get(line)
            now = [_put((given or {}).get(places.get(place, "")), cell) for place, cell in enumerate(cells)]
            is_emptied = given is not None and not any(cell.strip() for cell in given.values())
            if is_emptied and (now != cells or not given):
                left_out.append(line)
                said = ""
            else:
                if now != cells:
                    corrected.append(line)
                said = _as_csv(now)
        gap = line - at - said.count("\n")  # of lines that say nothing, so that this one keeps its number
        written.write("\n" * max(gap, 0) + said)
        at = max(line, at + said.count("\n"))
    return left_out, corrected


def _put(given: str | None, cell: str) -> str:
    """What was given for a cell; the cell itself, where that is what a field of a page shows of it."""
    return cell if given is None or _as_shown(given) == _as_shown(cell) else given


def _as_shown(cell: str) -> str:
    return "".join(unguarded(cell).splitlines()).strip()


def _as_csv(cells: list[str]) -> str:
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerow(cells)
    return made.getvalue()
