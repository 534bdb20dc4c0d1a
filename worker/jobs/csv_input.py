"""CSV from people: read line by line, never whole in memory; an error names its line."""

import csv
from collections.abc import Iterator, Sequence
from typing import IO

from worker.errors import InvalidInputError
from worker.jobs.files.text import read_lines
from worker.texts import text


def read_rows(stream: IO[str], required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of CSV with a header, each with its line number; empty lines are left out.

    Raises:
        InvalidInputError: a column is missing, or a line is broken; the line is named. A column `reason` is refused:
            one bulk job, one reason (rule 5).
    """
    reader = csv.reader(read_lines(stream), strict=True)
    try:
        header = next(reader, [])
        _check_header(header, required)
        columns = [_column(name) for name in header]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise InvalidInputError(
                    text(
                        "Line {line}: the line has {cells}, the header has {columns}.",
                        line=reader.line_num,
                        cells=_count(len(cells)),
                        columns=len(columns),
                    )
                )
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise InvalidInputError(
            text("Line {line}: not valid CSV ({error}).", line=reader.line_num, error=error)
        ) from None


def _check_header(header: Sequence[str], required: Sequence[str]) -> None:
    columns = [_column(name) for name in header]
    if not columns:
        raise InvalidInputError(text("The file is empty. It needs a header and at least one row."))
    for name in required:
        if name not in columns:
            raise InvalidInputError(
                text(
                    "Line 1: the header has no column `{name}`. Found: {found}.",
                    name=name,
                    found=",".join(header)[:100],
                )
            )
    if "reason" in columns:
        raise InvalidInputError(
            text(
                "Line 1: a column `reason` is refused: one bulk job has one reason for every enrolment in it "
                "(rule 5). Give the reason once, beside the file (--reason), and send one file per reason."
            )
        )
    for name in columns:
        if columns.count(name) > 1:
            raise InvalidInputError(text("Line 1: the header has the column `{name}` twice.", name=name))


def _column(name: str) -> str:
    return name.strip().lower()


def _count(columns: int) -> str:
    return text("1 column") if columns == 1 else text("{count} columns", count=columns)
