"""One column of a file of text, in pieces of many rows: row by row, a million ids take two seconds of the processor.

A piece whose rows are not all as simple as they look is left to `text.py`, which reads row by row.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from worker.jobs.files.text import LONGEST_LINE, Broken, Layout, read_rows, read_rows_from

_CUT = 1 << 16
"""Bytes after which a piece ends with its line, of which as many are read: no cell is too long for the CSV module."""
_SIMPLE = ("utf-8", "utf-8-sig", "cp1252")
"""Encodings in which the bytes of a quote and of a line's end stand for nothing else."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole rows of a file, one after the other."""

    first: int
    """The line on which the first one begins."""
    cells: list[str] | None
    """The cells of the column, where each row is one line and has as many cells as the header."""
    read: Callable[[], Iterator[tuple[int, list[str]] | Broken]]
    """Reads it row by row. Call it before the next piece is asked for."""


def read_pieces(stream: IO[bytes], layout: Layout, *, header_line: int, width: int, place: int) -> Iterator[Piece]:
    """What stands below the header. From a row on that may span lines, the rest of the file is one piece.

    `header_line`: on which the header ends; `width`: its columns; `place`: of the column, counted from 0.
    """
    stream.seek(0)
    is_simple = header_line == 1 and not layout.has_sep and layout.encoding in _SIMPLE
    if not is_simple or not _ends_lines(stream.readline(LONGEST_LINE)):
        yield Piece(header_line + 1, None, partial(_read_below_header, stream, layout))
        return
    layout = replace(layout, encoding=layout.encoding.removesuffix("-sig"))  # the mark that begins the file is read
    line, at = header_line + 1, stream.tell()
    while raw := stream.read(_CUT):
        end = stream.readline(_CUT)
        raw += end
        found = _read_column(raw, layout, width, place) if _ends_lines(raw, is_last=len(end) < _CUT) else None
        if found is None:
            stream.seek(at)
            yield Piece(line, None, partial(read_rows_from, stream, layout, line))
            return
        lines, cells = found
        yield Piece(line, cells, partial(read_rows_from, io.BytesIO(raw), layout, line))
        line, at = line + lines, stream.tell()


def _ends_lines(raw: bytes, *, is_last: bool = False) -> bool:
    """Whether these are whole lines of text that end as most do. `is_last`: the last one needs no end."""
    return raw.count(b"\r") == raw.count(b"\r\n") and b"\0" not in raw and (is_last or raw.endswith(b"\n"))


def _read_column(raw: bytes, layout: Layout, width: int, place: int) -> tuple[int, list[str] | None] | None:
    """How many lines there are, and the cells of the column; None: a line may not be a row by itself."""
    lines = raw.decode(layout.encoding).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if width == 1 and b'"' not in raw and layout.delimiter.encode() not in raw:
        return len(lines), lines
    try:
        rows = list(csv.reader(lines, delimiter=layout.delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(lines):
        return None
    return len(lines), [row[place] for row in rows] if set(map(len, rows)) == {width} else None


def _read_below_header(stream: IO[bytes], layout: Layout) -> Iterator[tuple[int, list[str]] | Broken]:
    rows = read_rows(stream, layout)
    next(rows, None)
    yield from rows
