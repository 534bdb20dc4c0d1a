"""Rows as files: CSV (RFC 4180, UTF-8), XLSX and Parquet, in memory that does not grow with the rows.

A spreadsheet runs what looks like a formula, also in a file it is merely shown (OWASP, CSV injection). In CSV
such text gets an apostrophe in front; in XLSX text is stored as text, whatever it looks like. Parquet is read by
programs and keeps values as they are.
"""

import csv
import io
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO

Batches = Iterable[Sequence[Sequence[Any]]]

SHEET_ROWS = 1_048_576
"""Rows that a sheet of XLSX can hold, its header included."""
ROW_GROUP = 20_000
"""Rows of a row group of Parquet, which is in memory until it is full."""


class Format(StrEnum):
    """How a report is written."""

    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """As registered with IANA."""
        return {
            Format.CSV: "text/csv; charset=utf-8; header=present",
            Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Format.PARQUET: "application/vnd.apache.parquet",
        }[self]


class Kind(StrEnum):
    """What a column holds."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a report."""

    name: str
    kind: Kind


def write(
    wanted: Format,
    name: str,
    columns: Sequence[Column],
    batches: Batches,
    sink: BinaryIO,
    *,
    sheet_rows: int = SHEET_ROWS,
) -> int:
    """Write rows in the order of `columns` into `sink`; how many there were. `name`: of the report, for sheets."""
    match wanted:
        case Format.CSV:
            return _csv(columns, batches, sink)
        case Format.PARQUET:
            return _parquet(columns, batches, sink)
        case Format.XLSX:
            return _xlsx(name, columns, batches, sink, sheet_rows)


_RISKY = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide ones are read as the narrow ones


def _csv(columns: Sequence[Column], batches: Batches, sink: BinaryIO) -> int:
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=False)
    try:
        writer = csv.writer(text)
        writer.writerow([column.name for column in columns])
        plain = [_CSV[column.kind] for column in columns]
        count = 0
        for batch in batches:
            writer.writerows(
                [None if value is None else of(value) for of, value in zip(plain, row, strict=True)] for row in batch
            )
            count += len(batch)
        return count
    finally:
        text.detach()  # flushes, and leaves the sink open


def _guarded(value: str) -> str:
    return f"'{value}" if value.startswith(_RISKY) else value


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _digits(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


_CSV: dict[Kind, Callable[[Any], str]] = {
    Kind.INTEGER: str, Kind.NUMBER: _digits, Kind.TEXT: _guarded, Kind.TIME: _rfc3339
}  # fmt: skip


def _parquet(columns: Sequence[Column], batches: Batches, sink: BinaryIO) -> int:
    import pyarrow as pa  # noqa: PLC0415 - 60 MB that only this needs
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {
        Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string(),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    numbers = [index for index, column in enumerate(columns) if column.kind is Kind.NUMBER]
    count = 0
    with pq.ParquetWriter(sink, schema) as writer:
        waiting: list[Sequence[Any]] = []

        def put() -> None:
            lists = [list(values) for values in zip(*waiting, strict=True)]
            for index in numbers:
                lists[index] = [None if value is None else float(value) for value in lists[index]]
            writer.write_table(pa.table(lists, schema=schema))
            waiting.clear()

        for batch in batches:
            count += len(batch)
            waiting.extend(batch)
            if len(waiting) >= ROW_GROUP:
                put()
        if waiting:
            put()
    pa.default_memory_pool().release_unused()
    return count


def _xlsx(name: str, columns: Sequence[Column], batches: Batches, sink: BinaryIO, sheet_rows: int) -> int:
    import xlsxwriter  # noqa: PLC0415 - only this needs it

    with tempfile.TemporaryDirectory(prefix="withdrawals-xlsx-") as directory:
        book = xlsxwriter.Workbook(sink, {"constant_memory": True, "tmpdir": directory})
        book.use_zip64()  # a full sheet can pass 2 GB before it is compressed
        style = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        kinds = [column.kind for column in columns]
        count, sheet, at = 0, None, sheet_rows
        for batch in _with_header_at_least(batches):
            for row in batch:
                if sheet is None or at >= sheet_rows:
                    number = len(book.worksheets()) + 1
                    sheet = book.add_worksheet(name if number == 1 else f"{name} {number}")
                    for index, column in enumerate(columns):
                        sheet.write_string(0, index, column.name)
                    at = 1
                if row:
                    for index, (kind, value) in enumerate(zip(kinds, row, strict=True)):
                        if value is not None:
                            _cell(sheet, at, index, kind, value, style)
                    at += 1
                    count += 1
        book.close()
    return count


def _with_header_at_least(batches: Batches) -> Batches:
    yield [()]  # an empty result has a sheet with a header, too
    yield from batches


_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # XML 1.0, production 2 (Char)
_FIRST_DAY = datetime(1900, 3, 1, tzinfo=UTC)  # before it the days of spreadsheets are disputed
_EXACT = 10**15  # a spreadsheet keeps fifteen digits of a number


def _cell(sheet: Any, row: int, column: int, kind: Kind, value: Any, style: Any) -> None:
    if kind is Kind.TEXT:
        lines = value.replace("\r\n", "\n").replace("\r", "\n")  # as cells have them
        sheet.write_string(row, column, _NOT_XML.sub("", lines))
    elif kind is Kind.TIME and value >= _FIRST_DAY:
        sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), style)
    elif kind is not Kind.TIME and math.isfinite(value) and abs(value) < _EXACT:
        sheet.write_number(row, column, value)
    else:
        sheet.write_string(row, column, _CSV[kind](value))
