"""A roster as a file: one line a person, with their external id and, if the file has it, whether they are active.

Reading is that of all files (`worker/jobs/files`). A line that cannot be read makes the whole roster unfit: left out,
its person would be missing, and missing people are withdrawn.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from schemas.answers import FileFault
from schemas.jobs import MAX_FILE_IDS
from worker.errors import InvalidInputError
from worker.jobs.files import columns, parquet, text, workbook
from worker.jobs.files.faults import Faults, faulty_rows, unguarded
from worker.jobs.files.text import Broken, Layout

_ACTIVE = "active"
_SPELLINGS = {
    columns.EXTERNAL_ID: columns.SPELLINGS[columns.EXTERNAL_ID],
    _ACTIVE: ("active", "is active", "status", "employment status", "employee status", "user status",
              "account status", "enabled", "account enabled", "state"),
}  # fmt: skip
_MEANING = {columns.plain(name): column for column, names in _SPELLINGS.items() for name in names}

# Leave is not leaving: who is away for a time is active.
_STATES = {
    True: ("true", "yes", "y", "1", "active", "enabled", "employed", "current", "on leave", "leave", "parental leave",
           "garden leave", "suspended leave", "probation", "notice period", "provisioned", "hired"),
    False: ("false", "no", "n", "0", "inactive", "disabled", "terminated", "left", "leaver", "former", "deactivated",
            "deprovisioned", "retired", "resigned", "dismissed", "deleted"),
}  # fmt: skip
_STATE = {columns.plain(word): state for state, words in _STATES.items() for word in words}
_LONGEST = 255


@dataclass(slots=True)
class RosterTable:
    """A roster file that can be read again and again. Without a column that says so, everybody in it is active."""

    kind: str
    stream: IO[bytes]
    layout: Layout
    header: list[str]
    person: int
    state: int | None
    faults: Faults = field(default_factory=Faults)
    lines: int = 0
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Of the people and their states, in the order of the file, once `people` has ended."""
        return self._hash.hexdigest()

    def people(self) -> Iterator[tuple[int, str, bool]]:
        """Line, external id and whether they are active, of each line that can be read; faults are counted.

        Raises:
            InvalidInputError: the file has too many lines, or is no text from some line on.
        """
        for cells, found in self._read():
            del cells
            self.lines += 1
            if isinstance(found, FileFault):
                self.faults.add(found)
            else:
                self._hash.update(repr(found[1:]).encode("utf-8", "surrogatepass"))
                yield found

    def write_faults(self, sink: IO[bytes], others: dict[int, str]) -> None:
        """Write the lines with a fault as a file to mend. `others`: faults by line that only the whole file shows."""
        with faulty_rows(self.kind, sink, self.header, self.layout) as writer:
            for cells, found in self._read():
                if isinstance(found, FileFault):
                    writer.add(cells, found.text)
                elif found[0] in others:
                    writer.add(cells, others[found[0]])
        sink.seek(0)

    def _read(self) -> Iterator[tuple[list[str], tuple[int, str, bool] | FileFault]]:
        rows = text.read_rows(self.stream, self.layout)
        next(rows, None)
        for count, row in enumerate(rows, start=1):
            if count > MAX_FILE_IDS:
                raise InvalidInputError(f"A roster takes up to {MAX_FILE_IDS:,} lines.")
            if isinstance(row, Broken):
                yield [row.raw], FileFault(line=row.line, column=None, message=row.why)
            else:
                yield row[1], self._parse(*row)

    def _parse(self, line: int, cells: list[str]) -> tuple[int, str, bool] | FileFault:
        if len(cells) != len(self.header):
            message = f"the line has {len(cells):,} columns, the header has {len(self.header):,}."
            return FileFault(line=line, column=None, message=message)
        external_id = unguarded(cells[self.person])
        if not external_id.strip():
            return FileFault(line=line, column=columns.EXTERNAL_ID, message="is missing.")
        if len(external_id) > _LONGEST:
            return FileFault(line=line, column=columns.EXTERNAL_ID, message=f"is longer than {_LONGEST} characters.")
        if self.state is None:
            return line, external_id, True
        state = _STATE.get(columns.plain(cells[self.state][:_LONGEST]))
        if state is None:
            message = "is neither active nor inactive. Use true or false."
            return FileFault(line=line, column=_ACTIVE, message=message)
        return line, external_id, state


@contextmanager
def opened(stream: IO[bytes]) -> Iterator[RosterTable]:
    """A roster file: CSV, XLSX, ODS or Parquet. The stream can be read from its start again.

    Raises:
        InvalidInputError: it is none of these, is empty, or its header names no person.
    """
    if parquet.is_parquet(stream):
        with parquet.to_csv(stream) as converted:
            yield _table("parquet", converted)
    elif workbook.is_workbook(stream):
        with workbook.to_csv(stream) as converted:
            yield _table("workbook", converted)
    else:
        yield _table("csv", stream)


def _count_known(header: list[str]) -> int:
    return sum(columns.plain(name) in _MEANING for name in header[: text.MOST_COLUMNS])


def _table(kind: str, stream: IO[bytes]) -> RosterTable:
    layout = text.read_layout(stream, _count_known) if kind == "csv" else Layout("utf-8", ",", False)
    row = next(text.read_rows(stream, layout), None)
    if row is None:
        raise InvalidInputError("The roster is empty. This is not read as: everybody left.")
    if isinstance(row, Broken):
        raise InvalidInputError(f"Line {row.line}: {row.why}")
    line, header = row
    if len(header) > text.MOST_COLUMNS:
        raise InvalidInputError(f"Line {line}: the header has {len(header):,} columns. At most {text.MOST_COLUMNS:,}.")
    places = {column: [at for at, name in enumerate(header) if _means(name) == column] for column in _SPELLINGS}
    for column, found in places.items():
        if len(found) > 1:
            twice = ", ".join(header[at].strip()[:40] for at in found[:5])
            raise InvalidInputError(f"Line {line}: the header has the column `{column}` twice: {twice}.")
    if not places[columns.EXTERNAL_ID]:
        raise InvalidInputError(
            f"Line {line}: the header has no column `{columns.EXTERNAL_ID}`. Found: {','.join(header)[:100]}."
        )
    state = places[_ACTIVE][0] if places[_ACTIVE] else None
    return RosterTable(kind, stream, layout, header, places[columns.EXTERNAL_ID][0], state)


def _means(name: str) -> str | None:
    return _MEANING.get(columns.plain(name)) if len(name) <= _LONGEST else None
