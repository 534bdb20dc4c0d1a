"""CSV from people: read by line, wrong rows named by line, never whole in memory."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from worker.errors import InvalidInputError

LONGEST_LINE = 1_000_000  # characters; a longer one is not a row of ids

Row = tuple[int, int]
"""The line on which an id stands, and the id."""


@contextmanager
def uploaded_ids(stream: IO[bytes]) -> Iterator[Iterator[Row]]:
    """Line and `enrolment_id` of each row of a file that came over the wire; UTF-8, maybe with a byte order mark.

    Raises:
        InvalidInputError: as `rows`; also when it is not UTF-8.
    """
    decoded = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        yield ids(rows(decoded, ("enrolment_id",)))
    except UnicodeDecodeError:
        raise InvalidInputError("file: is not UTF-8; save it as CSV UTF-8") from None
    finally:
        decoded.detach()


def rows(stream: IO[str], required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of CSV with a header, each with its line number.

    Raises:
        InvalidInputError: a column is missing, or a line is broken; the line is named. A column `reason` is refused:
            one bulk job, one reason (rule 5).
    """
    reader = csv.reader(_lines(stream), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not header:
            raise InvalidInputError("the file is empty; it needs a header and at least one row")
        _check_header(header, required)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InvalidInputError(f"line {reader.line_num}: {len(cells)} columns, the header has {len(header)}")
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InvalidInputError(f"line {reader.line_num}: {error}") from None


def ids(found: Iterator[tuple[int, dict[str, str]]]) -> Iterator[Row]:
    """Line and `enrolment_id` of rows.

    Raises:
        InvalidInputError: one is no id; the line is named.
    """
    for line, row in found:
        yield line, number(line, "enrolment_id", row["enrolment_id"])


def number(line: int, column: str, value: str) -> int:
    """A positive whole number from a cell.

    Raises:
        InvalidInputError: names line and column.
    """
    text = value.strip()
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and 0 < len(digits) < 20 and int(digits) < 2**63):
        raise InvalidInputError(f"line {line}: {column} {text[:40]!r} is not a positive whole number")
    return int(digits)


def _check_header(header: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise InvalidInputError(f"line 1: the header lacks {', '.join(missing)}; it names the columns")
    if "reason" in header:
        raise InvalidInputError(
            "line 1: a column 'reason' is refused: one bulk job, one reason for every enrolment in it (rule 5); "
            "give it once, beside the file (--reason), and send one file per reason"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InvalidInputError(f"line 1: the column {twice[0]} stands there twice")


def _lines(stream: IO[str]) -> Iterator[str]:
    for line, text in enumerate(iter(lambda: stream.readline(LONGEST_LINE), ""), start=1):
        if len(text) == LONGEST_LINE:
            raise InvalidInputError(f"line {line}: is longer than {LONGEST_LINE:,} characters")
        if "\0" in text:
            raise InvalidInputError(f"line {line}: has a NUL byte; this is not a text file")
        yield text
