"""Parquet as CSV, for rosters: converted by a process of its own under the limits of workbooks (`workbook.py`).

The library is written in C++, and it reads what strangers send (ops/decisions/0046): whatever a file makes of it ends
with that process, which has no secrets.
"""

from typing import IO

from worker.errors import InvalidInputError
from worker.jobs.files import convert_parquet, workbook
from worker.texts import text

_PLAIN, _ENCRYPTED = b"PAR1", b"PARE"
_PIECE = 1 << 20


def is_parquet(stream: IO[bytes]) -> bool:
    """Whether the file is a Parquet file, plain or encrypted."""
    stream.seek(0)
    start = stream.read(4)
    stream.seek(0)
    return start in (_PLAIN, _ENCRYPTED)


def to_csv(stream: IO[bytes]) -> IO[bytes]:
    """The columns that are no lists and no structures as CSV in UTF-8, in a temporary file. Row 1 is on line 2.

    Raises:
        InvalidInputError: it is damaged or encrypted, is larger than the limits, or a row has no text that can be read.
    """
    stream.seek(0)
    if stream.read(4) == _ENCRYPTED:
        raise InvalidInputError(text("The Parquet file is encrypted. Write it without encryption."))
    return workbook.converted(stream, convert_parquet.__file__, _refused)


def _refused(code: int, made: IO[bytes]) -> InvalidInputError:
    """Why the program refused the file. `made`: what it had written by then."""
    match code:
        case convert_parquet.UNREADABLE:
            return InvalidInputError(
                text("The Parquet file cannot be read: it is damaged or incomplete. Write it again.")
            )
        case convert_parquet.TOO_WIDE:
            return InvalidInputError(
                text("The Parquet file has more than {most:,} columns.", most=convert_parquet.MOST_COLUMNS)
            )
        case convert_parquet.TOO_LONG:
            return InvalidInputError(
                text("The Parquet file has more than {most:,} rows.", most=convert_parquet.MOST_ROWS)
            )
        case convert_parquet.NOT_TEXT:
            return InvalidInputError(text("Line {line}: has a value that is not text in UTF-8.", line=_next_line(made)))
        case convert_parquet.BLANK:
            return InvalidInputError(text("Line {line}: is empty. Its person would be missing.", line=_next_line(made)))
        case _:
            return InvalidInputError(text("The Parquet file is too large to be read. Send fewer columns, or send CSV."))


def _next_line(made: IO[bytes]) -> int:
    made.seek(0)
    return 1 + sum(piece.count(b"\n") for piece in iter(lambda: made.read(_PIECE), b""))
