"""Rows of a file as what they ask for: an enrolment by its id, or by learner and Series; or what is wrong with them."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, NamedTuple

from schemas.answers import FileFault
from schemas.jobs import MAX_FILE_IDS
from worker.errors import InvalidInputError
from worker.ids import LARGEST, parse_id
from worker.jobs.files import columns as names
from worker.jobs.files import text, workbook
from worker.jobs.files.columns import Columns
from worker.jobs.files.faults import Faults, unguarded
from worker.jobs.files.pieces import Piece, read_pieces
from worker.jobs.files.text import Broken, Layout
from worker.texts import mark
from worker.texts import text as say

_LONGEST = {names.EMAIL: 320, names.LEARNER: 320}
_LONGEST_CELL = 255
"""Characters of a cell that is looked up; 320 of an e-mail address (RFC 3696, errata)."""
_SHORT_ID = 18
"""Digits that are an id whatever they are; with more the value has to be compared."""
_SET = 10_000
"""Rows that were read one by one, and go on together."""


class Asked(NamedTuple):
    """One row that names an enrolment: by its id, or by learner, Series and maybe pathway."""

    line: int
    enrolment_id: int | None
    external_id: str | None = None
    email: str | None = None
    learner: str | None = None
    series_code: str | None = None
    pathway: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A file that can be read, again and again."""

    kind: str
    """`csv` or `workbook`."""
    stream: IO[bytes]
    layout: Layout
    columns: Columns
    header_line: int
    """The line on which the header ends."""
    left_out: Collection[int] = ()
    """Lines that are left out on purpose: as if they were not there, but that the hash of the file has them."""

    def rows(self, faults: Faults) -> "Rows":
        """What its rows ask for. Faults are counted while it is read."""
        return Rows(self, faults)

    def read_all(self) -> Iterator[tuple[int, list[str], Asked | FileFault]]:
        """Every row by line, with its cells and what it asks for.

        Raises:
            InvalidInputError: as `read_lines`.
        """
        parse = Parser(self.columns)
        for row in self.read_lines():
            found = parse.any_row(row)
            yield found.line, [row.raw] if isinstance(row, Broken) else row[1], found

    def read_lines(self) -> Iterator[tuple[int, list[str]] | Broken]:
        """Every row below the header.

        Raises:
            InvalidInputError: the file has too many rows, or is no text from some line on.
        """
        read = text.read_rows(self.stream, self.layout)
        next(read, None)
        for count, row in enumerate(read, start=1):
            _require_fitting(count)
            yield row


class Rows:
    """Iterates over what the rows of a table ask for; counts rows and faults, and hashes what is asked for."""

    def __init__(self, table: Table, faults: Faults) -> None:
        self._table, self._faults = table, faults
        self._hash = hashlib.sha256()
        self._read = 0
        self.count = 0

    @property
    def sha256(self) -> str:
        """Of all that is asked for, in the order of the file, as hexadecimal digits."""
        return self._hash.hexdigest()

    def asked(self) -> Iterator[Asked]:
        """Every row that has no fault."""
        for line, _, found in self._table.read_all():
            is_wanted = line not in self._table.left_out
            self.count += is_wanted
            if not isinstance(found, FileFault):
                self._hash.update(repr(found[1:]).encode("utf-8", "surrogatepass"))
                if is_wanted:
                    yield found
            elif is_wanted:
                self._faults.add(found)

    def ids(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        """Lines and ids of the rows that have no fault, many at a time, of a table whose rows name nothing but ids.

        Raises:
            InvalidInputError: the file has too many rows, or is no text from some line on.
        """
        table = self._table
        width, place = table.columns.width, table.columns.at[names.ENROLMENT]
        for piece in read_pieces(table.stream, table.layout, header_line=table.header_line, width=width, place=place):
            ids = _parse_plain(piece.cells or [])
            lines = range(piece.first, piece.first + len(ids))
            if ids and not any(line in lines for line in table.left_out):  # nearly all of a large file
                self._read += len(ids)
                _require_fitting(self._read)
                self.count += len(ids)
                yield lines, ids
            else:
                rows = self._each_id(piece)
                while some := list(islice(rows, _SET)):
                    yield [line for line, _ in some], [one for _, one in some]

    def _each_id(self, piece: Piece) -> Iterator[tuple[int, int]]:
        parse = Parser(self._table.columns)
        for row in piece.read():
            self._read += 1
            _require_fitting(self._read)
            if (row.line if isinstance(row, Broken) else row[0]) in self._table.left_out:
                continue
            self.count += 1
            parsed = parse.any_row(row)
            if isinstance(parsed, FileFault):
                self._faults.add(parsed)
            elif parsed.enrolment_id is not None:
                yield parsed.line, parsed.enrolment_id


def _parse_plain(cells: Sequence[str]) -> list[int]:
    """The ids of cells that are nothing but digits; none, where one of them has to be looked at by itself."""
    digits = "".join(cells)
    if not (digits.isascii() and digits.isdecimal()):
        return []
    try:
        ids = list(map(int, cells))
    except ValueError:  # an empty cell, or thousands of digits
        return []
    return ids if min(ids) > 0 and max(ids) <= LARGEST else []


def _require_fitting(rows: int) -> None:
    if rows > MAX_FILE_IDS:
        raise InvalidInputError(say("a file takes up to {most:,} rows; split it", most=MAX_FILE_IDS))


class Parser:
    """What one row asks for."""

    def __init__(self, columns: Columns) -> None:
        self._width = columns.width
        self._id = columns.at.get(names.ENROLMENT)
        wanted = (names.EXTERNAL_ID, names.EMAIL, names.LEARNER, names.SERIES, names.PATHWAY)
        self._lookup = [(name, columns.at.get(name)) for name in wanted] if columns.has_lookup else []

    def any_row(self, row: tuple[int, list[str]] | Broken) -> Asked | FileFault:
        """What a row asks for, or what is wrong with it."""
        return FileFault(line=row.line, column=None, message=row.why) if isinstance(row, Broken) else self._row(*row)

    def _row(self, line: int, cells: list[str]) -> Asked | FileFault:
        if len(cells) != self._width:
            return FileFault(line=line, column=None, message=_say_widths(len(cells), self._width))
        if self._id is not None and (not self._lookup or cells[self._id].strip()):
            return self._by_id(line, cells[self._id])
        return self._by_learner(line, cells)

    def _by_id(self, line: int, cell: str) -> Asked | FileFault:
        if len(cell) <= _SHORT_ID and cell.isdecimal() and cell.isascii() and (found := int(cell)):
            return Asked(line, found)
        try:
            return Asked(line, parse_id(cell, names.ENROLMENT))
        except InvalidInputError:
            message = say("{given!r} is not a positive whole number", given=cell.strip()[:40])
            return FileFault(line=line, column=names.ENROLMENT, message=message)

    def _by_learner(self, line: int, cells: list[str]) -> Asked | FileFault:
        found = {name: self._cell(name, place, cells) for name, place in self._lookup}
        for name, value in found.items():
            if value is not None and len(value) > _LONGEST.get(name, _LONGEST_CELL):
                return FileFault(
                    line=line,
                    column=name,
                    message=say("is longer than {most} characters.", most=_LONGEST.get(name, _LONGEST_CELL)),
                )
        external_id, email, learner, series, pathway = found.values()
        if external_id is None and email is None and learner is None:
            message = say("is missing: give the learner's id or the email address.")
            return FileFault(line=line, column="learner", message=message)
        if series is None:
            return FileFault(line=line, column=names.SERIES, message=say("is missing."))
        return Asked(line, None, external_id, email, learner, series, pathway)

    def _cell(self, name: str, place: int | None, cells: list[str]) -> str | None:
        if place is None:
            return None
        value = unguarded(cells[place])
        return (value if name == names.EXTERNAL_ID and value.strip() else value.strip()) or None


def _count(columns: int) -> str:
    return say("1 column") if columns == 1 else say("{count:,} columns", count=columns)


def _say_widths(line: int, header: int) -> str:
    template = mark("the line has {columns}, the header has {header}.")
    return say(template, columns=_count(line), header=header)


@contextmanager
def opened(stream: IO[bytes], left_out: Collection[int] = ()) -> Iterator[Table]:
    """A file as a table: CSV, XLSX or ODS. The stream can be read from its start again. `left_out`: lines.

    Raises:
        InvalidInputError: it is none of these, is empty, or its header names no enrolment.
    """
    if not workbook.is_workbook(stream):
        yield _table("csv", stream, left_out)
        return
    with workbook.to_csv(stream) as converted:
        yield _table("workbook", converted, left_out)


def _table(kind: str, stream: IO[bytes], left_out: Collection[int]) -> Table:
    layout = text.read_layout(stream, names.count_known) if kind == "csv" else Layout("utf-8", ",", False)
    header = next(text.read_rows(stream, layout), None)
    if header is None:
        raise InvalidInputError(say("The file is empty. It needs a header and at least one row."))
    if isinstance(header, Broken):
        raise InvalidInputError(say("Line {line}: {why}", line=header.line, why=header.why))
    return Table(kind, stream, layout, names.read_header(*header), header[0], left_out)
