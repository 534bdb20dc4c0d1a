"""Files that a person names on the command line: opened, and read line by line."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import IO

from worker.errors import InvalidInputError
from worker.jobs import csv_input
from worker.jobs.files.text import LONGEST_LINE


@contextmanager
def read_rows(path: Path, *, required: Sequence[str]) -> Iterator[Iterator[tuple[int, dict[str, str]]]]:
    """Rows of a CSV file with a header, each with its line number; `-` is standard input.

    UTF-8, with or without a byte order mark. Each step of the iterator can raise.

    Raises:
        InvalidInputError: the file cannot be read, a column is missing, or a line is broken; the line is named.
    """
    with _open(path) as stream:
        yield csv_input.read_rows(stream, required)


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """A file that can be read again from its start; `-` is standard input. What is a pipe is copied first.

    Raises:
        InvalidInputError: the file cannot be read; also while it is read.
    """
    with ExitStack() as stack:
        try:
            is_input = str(path) == "-"
            stream: IO[bytes] = open(sys.stdin.fileno(), "rb", closefd=False) if is_input else path.open("rb")  # noqa: SIM115
            stack.enter_context(stream)
            if not stream.seekable():
                copy = stack.enter_context(tempfile.TemporaryFile())
                copyfileobj(stream, copy)
                stream = copy
            stream.seek(0)
            yield stream
        except IsADirectoryError as error:
            raise InvalidInputError(f"{path}: {error.strerror}") from None
        except OSError as error:
            if error.filename is not None and Path(str(error.filename)) != path:
                raise
            raise InvalidInputError(f"{path}: {error.strerror or 'cannot be read'}") from None


def read_line(path: Path) -> str:
    """The first line of a small text file; `-` is standard input.

    Raises:
        InvalidInputError: the file cannot be read, or is empty.
    """
    with _open(path) as stream:
        line = stream.readline(LONGEST_LINE).strip()
    if not line:
        raise InvalidInputError(f"{path}: is empty")
    return line


def read_secret(path: Path) -> str:
    """As `read_line`, or the whole file if it is a JSON object.

    Raises:
        InvalidInputError: the file cannot be read, or is empty.
    """
    with _open(path) as stream:
        text = stream.read(LONGEST_LINE).strip()
    if not text:
        raise InvalidInputError(f"{path}: is empty")
    return text if text.startswith("{") else text.splitlines()[0].strip()


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    """A text file; what goes wrong while it is read is raised with its name."""
    try:
        with _stream(path) as stream:
            yield stream
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path}: is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror or 'cannot be read'}") from None


def _stream(path: Path) -> IO[str]:
    if str(path) == "-":
        return open(sys.stdin.fileno(), encoding="utf-8-sig", newline="", closefd=False)
    return path.open(encoding="utf-8-sig", newline="")
