"""CSV as spreadsheets write it: its encoding, its delimiter, and its rows with their lines.

Nothing of it is whole in memory. A row that cannot be read is a fault, and reading goes on with the next one; a file
that is no text at all is refused whole.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from worker.errors import InvalidInputError
from worker.texts import text

LONGEST_LINE = 1_000_000
"""Characters; a longer line is not a row of ids."""
MOST_COLUMNS = 16_384
"""As many as a sheet of a spreadsheet has."""

MOST_LINES = 1_000
"""Lines that one row may span: a quote that is open for longer does not end. A cell of Excel has up to 253."""
MOST_AGAIN = 100_000
"""Lines of a file that are read a second time, after quotes that did not end; then a row ends with its line."""

_PIECE = 1 << 20
_DELIMITERS = ",;\t|:^~"
"""What is tried when no `sep=` line says it, in this order."""
_SEP = re.compile(r'"?sep=([^"\r\n])"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is to be read."""

    encoding: str
    delimiter: str
    has_sep: bool
    """Whether its first line is `sep=` with the delimiter, as Excel reads it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no row: a quote that does not end, or a cell that never does. `raw`: the line as it came."""

    line: int
    why: str
    raw: str


def read_layout(stream: IO[bytes], known: Callable[[list[str]], int]) -> Layout:
    """Find encoding and delimiter. `known`: how many of a header's names have a meaning.

    Raises:
        InvalidInputError: it is no text in UTF-8, UTF-16 or Windows-1252.
    """
    encoding = _find_encoding(stream)
    stream.seek(0)
    decoded = io.TextIOWrapper(stream, encoding=encoding, newline="")
    try:
        lines = read_lines(decoded)
        first = next((line for line in lines if line.strip()), "")
        declared = _SEP.fullmatch(first.strip("\r\n"))
        if declared:
            return Layout(encoding, declared[1], True)
        return Layout(encoding, _find_delimiter(first, known), False)
    finally:
        decoded.detach()


def read_rows(stream: IO[bytes], layout: Layout) -> Iterator[tuple[int, list[str]] | Broken]:
    """Rows with the line on which each ends, blank ones left out; the first is the header.

    Of a row that is no CSV the first line is broken, and reading goes on with the next: no line is lost.

    Raises:
        InvalidInputError: a line is too long or has a NUL: this is no table of text. The line is named.
    """
    stream.seek(0)
    return read_rows_from(stream, layout, 1)


def read_rows_from(stream: IO[bytes], layout: Layout, first: int) -> Iterator[tuple[int, list[str]] | Broken]:
    """As `read_rows`, from where the stream stands on. `first`: the number of the line that begins there."""
    decoded = io.TextIOWrapper(stream, encoding=layout.encoding, newline="")
    try:
        lines = _Lines(read_lines(decoded, first), first)
        reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
        if layout.has_sep:
            lines.skip_first()
        taken = lines.taken
        while True:
            try:
                for cells in reader:
                    if any(cells) and any(cell.strip() for cell in cells):
                        yield taken[-1][0], cells
                    taken.clear()
                return
            except csv.Error as error:
                line, raw = lines.give_back()
                yield Broken(line, text("not valid CSV ({error}).", error=error), raw.rstrip("\r\n"))
    finally:
        if not stream.closed:  # else whoever reads has stopped before the end
            decoded.detach()


class _Lines:
    """Lines of a file, of which those after a broken one can be read again: its open quote has swallowed them.

    Without limits, a file of nothing but lines that leave a quote open would be read once for each of its lines.
    """

    def __init__(self, lines: Iterator[str], first: int) -> None:
        self._lines = enumerate(lines, start=first)
        self._again: deque[tuple[int, str]] = deque()
        self._again_left = MOST_AGAIN
        self._characters = 0
        self.taken: list[tuple[int, str]] = []
        """The lines of the row that is being read, with their numbers."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.taken:
            self._must_go_on()
        else:
            self._characters = 0
        found = self._again.popleft() if self._again else next(self._lines)
        self._characters += len(found[1])
        self.taken.append(found)
        return found[1]

    def skip_first(self) -> None:
        """Skip the first line that is not blank."""
        next((line for _, line in self._lines if line.strip()), None)

    def _must_go_on(self) -> None:
        most = MOST_LINES if self._again_left > 0 else 1
        if len(self.taken) >= most or self._characters >= LONGEST_LINE:
            raise csv.Error("a quote does not end")

    def give_back(self) -> tuple[int, str]:
        """The first line of the row that is being read; the lines after it are read again."""
        first, *others = self.taken
        self._again_left -= len(others)
        self._again.extendleft(reversed(others))
        self.taken.clear()
        return first


def _find_encoding(stream: IO[bytes]) -> str:
    """The encoding of a file, as Python names it; all of it is read, because one byte decides."""
    stream.seek(0)
    start = stream.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        candidates = ["utf-16"]
    elif start[1:2] == b"\0" and start[:1] != b"\0" and start[3:4] == b"\0":
        candidates = ["utf-16-le"]
    elif start[:1] == b"\0" and start[1:2] != b"\0" and start[2:3] == b"\0":
        candidates = ["utf-16-be"]
    elif start.startswith(codecs.BOM_UTF8):
        candidates = ["utf-8-sig"]
    else:
        candidates = ["utf-8", "cp1252"]
    for encoding in candidates:
        if _decodes(stream, encoding):
            return encoding
    raise InvalidInputError(text("The file is not text in UTF-8, UTF-16 or Windows-1252. Save it as CSV UTF-8."))


def _decodes(stream: IO[bytes], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    stream.seek(0)
    try:
        while piece := stream.read(_PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _find_delimiter(header: str, known: Callable[[list[str]], int]) -> str:
    """The delimiter for which most names of the header have a meaning; else the one that it has most often."""
    found = {delimiter: known(_split(header, delimiter)) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda delimiter: found[delimiter])
    return best if found[best] else max(_DELIMITERS, key=header.count)


def _split(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []


def read_lines(stream: IO[str], first: int = 1) -> Iterator[str]:
    """The lines of a text. `first`: the number of the first one.

    Raises:
        InvalidInputError: a line is too long, or has a NUL byte.
    """
    for line, read in enumerate(iter(lambda: stream.readline(LONGEST_LINE), ""), start=first):
        if len(read) == LONGEST_LINE:
            raise InvalidInputError(
                text("Line {line}: longer than {longest:,} characters.", line=line, longest=LONGEST_LINE)
            )
        if "\0" in read:
            raise InvalidInputError(text("Line {line}: has a NUL byte, so this is not a text file.", line=line))
        yield read
