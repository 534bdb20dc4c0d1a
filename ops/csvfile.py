"""CSV files from people: read by line, wrong rows named by line, never whole in memory."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from worker.errors import InvalidInputError

_LONGEST_LINE = 1_000_000  # characters; a longer one is not a row of ids


@contextmanager
def rows(path: Path, *, required: Sequence[str]) -> Iterator[Iterator[tuple[int, dict[str, str]]]]:
    """Rows of a CSV file with a header, each with its line number; `-` is standard input.

    UTF-8, with or without a byte order mark. Reading a row can raise.

    Raises:
        InvalidInputError: the file cannot be read, lacks a column, or a line is broken; the line is named.
    """
    try:
        with _open(path) as stream:
            yield _rows(stream, required)
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path}: is not UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror or 'cannot be read'}") from None


@contextmanager
def read_ids(path: Path) -> Iterator[Iterator[int]]:
    """The column `enrolment_id` of a CSV file.

    Raises:
        InvalidInputError: as `rows`; also for a column `reason`: one bulk job, one reason (rule 5).
    """
    with rows(path, required=("enrolment_id",)) as found:
        yield _ids(found)


def read_line(path: Path) -> str:
    """The first line of a small text file; `-` is standard input.

    Raises:
        InvalidInputError: the file cannot be read, or is empty.
    """
    try:
        with _open(path) as stream:
            line = stream.readline(_LONGEST_LINE).strip()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path}: is not UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if not line:
        raise InvalidInputError(f"{path}: is empty")
    return line


def number(line: int, column: str, value: str) -> int:
    """A positive whole number from a cell.

    Raises:
        InvalidInputError: names line and column.
    """
    text = value.strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < 2**63):
        raise InvalidInputError(f"line {line}: {column} {text[:40]!r} is not a positive whole number")
    return int(text)


def _ids(found: Iterator[tuple[int, dict[str, str]]]) -> Iterator[int]:
    for line, row in found:
        yield number(line, "enrolment_id", row["enrolment_id"])


def _open(path: Path) -> IO[str]:
    if str(path) == "-":
        return open(sys.stdin.fileno(), encoding="utf-8-sig", newline="", closefd=False)
    return path.open(encoding="utf-8-sig", newline="")


def _rows(stream: IO[str], required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
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


def _check_header(header: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise InvalidInputError(f"line 1: the header lacks {', '.join(missing)}; it names the columns")
    if "reason" in header:
        raise InvalidInputError(
            "line 1: a column 'reason' is refused: one bulk job, one reason for every enrolment in it (rule 5); "
            "give it with --reason and send one file per reason"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InvalidInputError(f"line 1: the column {twice[0]} stands there twice")


def _lines(stream: IO[str]) -> Iterator[str]:
    for line, text in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), start=1):
        if len(text) == _LONGEST_LINE:
            raise InvalidInputError(f"line {line}: is longer than {_LONGEST_LINE:,} characters")
        if "\0" in text:
            raise InvalidInputError(f"line {line}: has a NUL byte; this is not a text file")
        yield text
