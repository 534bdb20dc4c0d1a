"""The program that turns a Parquet file into CSV. It is run as a process of its own, see `parquet.py`.

It imports nothing of the service, and the library only under its limits, as `convert.py` does. Rows are read a batch at
a time. Exit codes: 0 done, else one of the constants below. Of a row that is refused, the rows before it are written:
their number says which it is. Beyond a limit the system ends it with a signal.
"""

import csv
import datetime
import decimal
import io
import resource
import sys
from collections.abc import Iterator
from typing import Any

UNREADABLE, TOO_LARGE, TOO_WIDE, TOO_LONG, NOT_TEXT, BLANK = 3, 6, 7, 8, 9, 10
MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
"""As many as a sheet of a spreadsheet has. A file can say in a few bytes that a value stands in any number of rows."""
_BATCH = 1_000
_BUFFER = 1 << 16
_LARGEST_EXACT = 2**53
"""Whole numbers beyond this one have no exact float."""


class _RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def main() -> int:
    """Read a Parquet file from standard input and write its flat columns as CSV to standard output.

    Arguments: as of `convert.py`.
    """
    memory, output, seconds = map(int, sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", errors="replace")
    try:
        writer = csv.writer(out, lineterminator="\n")
        for row in _rows():
            writer.writerow(row)
        out.flush()
    except _RefusedError as refused:
        out.flush()
        return refused.code
    except MemoryError:
        return TOO_LARGE
    except Exception:
        return UNREADABLE
    return 0


def _rows() -> Iterator[list[str]]:
    import pyarrow as pa  # noqa: PLC0415 - under the limits
    import pyarrow.parquet as pq  # noqa: PLC0415

    pa.set_memory_pool(pa.system_memory_pool())  # the others reserve more than they use
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    file = pq.ParquetFile(sys.stdin.buffer, buffer_size=_BUFFER, pre_buffer=False, arrow_extensions_enabled=False)
    if file.metadata.num_columns > MOST_COLUMNS:
        raise _RefusedError(TOO_WIDE)
    if file.metadata.num_rows > MOST_ROWS:
        raise _RefusedError(TOO_LONG)
    flat = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
    yield [_one_line(name) for name in flat]
    for batch in file.iter_batches(_BATCH, columns=flat, use_threads=False):
        for row in zip(*(_values(pa, column) for column in batch.columns), strict=True):
            cells = [_text(value) for value in row]
            if not any(cell.strip() for cell in cells):
                raise _RefusedError(BLANK)  # as CSV it would be left out, and its person with it
            yield cells


def _values(pa: Any, column: Any) -> list[Any]:
    """The values of a column as Python has them; text as bytes, so that each one can be looked at.

    Nothing that a file says about its own values is believed.
    """
    if pa.types.is_dictionary(column.type):
        column.validate(full=True)
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_binary())
    elif pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    column.validate(full=True)
    found: list[Any] = column.to_pylist()
    return found


def _text(value: Any) -> str:
    """A value on one line, as `convert.py` writes it."""
    match value:
        case None:
            text = ""
        case bool():
            text = str(value).lower()
        case bytes():
            try:
                text = value.decode()
            except UnicodeDecodeError:
                raise _RefusedError(NOT_TEXT) from None
        case float() if value.is_integer() and abs(value) <= _LARGEST_EXACT:
            text = str(int(value))
        case decimal.Decimal():
            text = f"{value:f}"
        case datetime.date() | datetime.time():
            text = value.isoformat()
        case _:
            text = str(value)
    return _one_line(text)


def _one_line(value: str) -> str:
    return " ".join(value.splitlines())


if __name__ == "__main__":
    sys.exit(main())
