"""XLSX and ODS as CSV: converted by a process of its own, with limits that the system enforces.

A workbook of one kilobyte can name a cell in its last row and column, for which the reader asks for 512 GB and ends
its process; packed text unpacks without end. Neither may happen in a web process (ops/decisions/0035).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, cast

from worker.errors import InvalidInputError
from worker.jobs.files import convert
from worker.texts import text

MEMORY = 2**30
"""Bytes of address space of the process: a million rows of three columns take a third of it."""
OUTPUT = 2**29
"""Bytes of CSV that one workbook may become."""
SECONDS = 60
"""Of processor time; a million rows of three columns take ten."""
_AT_ONCE = threading.BoundedSemaphore(2)
"""Conversions that run at the same time in one process of the service."""
_MOST_PARTS = 10_000
"""Files inside a workbook; a real one has a few for each sheet."""
_LONGEST_READ = 2 * 2**20
"""Bytes that are read at once of an archive before its process; a directory of so many parts is shorter."""

_ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
"""Of the process: it gets none of the service's secrets."""
_ZIP, _OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def is_workbook(stream: IO[bytes]) -> bool:
    """Whether the file is a ZIP archive, as every XLSX and ODS is, or an old Excel file, which is refused."""
    stream.seek(0)
    start = stream.read(8)
    stream.seek(0)
    return start.startswith((_ZIP, _OLD))


def to_csv(stream: IO[bytes]) -> IO[bytes]:
    """The first visible sheet of a workbook as CSV in UTF-8, in a temporary file. Rows keep their numbers.

    Raises:
        InvalidInputError: it is no XLSX or ODS file, is damaged or protected, or is larger than the limits.
    """
    _check(stream)
    return converted(stream, convert.__file__, _refused)


def converted(stream: IO[bytes], program: str, refused: Callable[[int, IO[bytes]], InvalidInputError]) -> IO[bytes]:
    """What a program makes of a file within the limits, in a temporary file.

    `refused`: why it did not, by its exit code (`convert.TOO_LARGE` when a limit ended it) and what it had written.

    Raises:
        InvalidInputError: the program refused the file, or a limit ended it.
    """
    made = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with tempfile.TemporaryFile() as copy, _AT_ONCE:
            stream.seek(0)
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            code = _run(program, copy, made)
        if code:
            raise refused(code, made)
    except BaseException:
        made.close()
        raise
    made.seek(0)
    return made


def _check(stream: IO[bytes]) -> None:
    stream.seek(0)
    if stream.read(8) == _OLD:
        raise InvalidInputError(
            text(
                "The file is an old Excel file (.xls), or protected with a password. Save it as an Excel "
                "workbook (.xlsx) without a password."
            )
        )
    try:
        with zipfile.ZipFile(cast(IO[bytes], _InParts(stream))) as archive:
            names = archive.namelist()
            encrypted = any(part.flag_bits & 1 for part in archive.infolist())
            kind = archive.read("mimetype")[:100] if _small(archive, "mimetype") else b""
    # All that zipfile raises for an archive that is damaged, encrypted, or made by somebody who means harm.
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error):
        raise _unreadable() from None
    if encrypted:
        raise _protected()
    if len(names) > _MOST_PARTS:
        raise _too_large()
    if "xl/workbook.xml" not in names and kind != b"application/vnd.oasis.opendocument.spreadsheet":
        raise InvalidInputError(
            text("The file is a ZIP archive, and neither XLSX nor ODS. Send the spreadsheet itself.")
        )


class _InParts:
    """A stream of which nobody reads much at once: zipfile makes objects of a whole directory, of whatever length."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """As of any stream.

        Raises:
            InvalidInputError: it is more than a directory has.
        """
        found = self._stream.read(size if 0 <= size <= _LONGEST_READ else _LONGEST_READ + 1)
        if len(found) > _LONGEST_READ:
            raise _too_large()
        return found


def _small(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.NameToInfo and archive.NameToInfo[name].file_size <= 100


_MUST_NOT_HAPPEN = (1, 2, 126, 127)
"""Exit codes of a program that did not start."""


def _run(program: str, source: IO[bytes], target: IO[bytes]) -> int:
    """The exit code of a program; `convert.TOO_LARGE` also when the system ended it."""
    command = [sys.executable, "-I", program, str(MEMORY), str(OUTPUT), str(SECONDS)]
    try:
        done = subprocess.run(
            command,
            stdin=source,
            stdout=target,
            stderr=subprocess.DEVNULL,
            timeout=2 * SECONDS,
            check=False,
            env=_ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        return convert.TOO_LARGE
    if done.returncode in _MUST_NOT_HAPPEN:
        raise RuntimeError(f"the converter of files did not start: exit code {done.returncode}")
    return convert.TOO_LARGE if done.returncode < 0 else done.returncode


def _refused(code: int, _: IO[bytes]) -> InvalidInputError:
    match code:
        case convert.UNREADABLE:
            return _unreadable()
        case convert.LOCKED:
            return _protected()
        case convert.NO_SHEET:
            return InvalidInputError(text("The workbook has no visible sheet."))
        case _:
            return _too_large()


def _unreadable() -> InvalidInputError:
    return InvalidInputError(
        text("The workbook cannot be read: it is damaged or incomplete. Save it again, or send CSV.")
    )


def _protected() -> InvalidInputError:
    return InvalidInputError(text("The workbook is protected with a password. Save it without one."))


def _too_large() -> InvalidInputError:
    return InvalidInputError(
        text("The workbook is too large to be read. Delete what lies outside the table, or save the sheet as CSV.")
    )
