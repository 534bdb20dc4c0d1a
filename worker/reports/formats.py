"""File formats: CSV (RFC 4180, UTF-8), XLSX and Parquet, written in memory that does not grow with the rows.

A spreadsheet evaluates text that looks like a formula (OWASP, CSV injection). In CSV such text gets an apostrophe in
front. In XLSX text is stored as text, whatever it looks like. Parquet is read by programs and keeps values as they are.
"""

import csv
import io
import math
import os
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
"""Rows that an XLSX sheet can hold, the header included."""
ROW_GROUP = 10_000
"""Rows of a Parquet row group, which stays in memory until it is full."""


class Format(StrEnum):
    """The format of an exported file."""

    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """The media type registered with IANA."""
        return {
            Format.CSV: "text/csv; charset=utf-8; header=present",
            Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Format.PARQUET: "application/vnd.apache.parquet",
        }[self]


class ColumnType(StrEnum):
    """What a column holds."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an exported file."""

    name: str
    type: ColumnType


def write(
    format_: Format,
    name: str,
    columns: Sequence[Column],
    batches: Batches,
    sink: BinaryIO,
    *,
    sheet_rows: int = SHEET_ROWS,
) -> int:
    """Write rows, in the order of `columns`, into `sink`. Returns the number of rows.

    `name`: the report's, for the names of the sheets; `sheet_rows`: rows of a sheet, the header included.
    """
    match format_:
        case Format.CSV:
            return _csv(columns, batches, sink)
        case Format.PARQUET:
            return _parquet(columns, batches, sink)
        case Format.XLSX:
            return _xlsx(name, columns, batches, sink, sheet_rows)


_RISKY = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - spreadsheets read the wide ones as the narrow ones


def _csv(columns: Sequence[Column], batches: Batches, sink: BinaryIO) -> int:
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=False)
    try:
        writer = csv.writer(text)
        writer.writerow([column.name for column in columns])
        as_text = [_AS_TEXT[column.type] for column in columns]
        count = 0
        for batch in batches:
            writer.writerows(
                [None if value is None else convert(value) for convert, value in zip(as_text, row, strict=True)]
                for row in batch
            )
            count += len(batch)
        return count
    finally:
        text.detach()  # flushes the text and leaves the sink open


def _guarded(value: str) -> str:
    return f"'{value}" if value.startswith(_RISKY) else value


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _digits(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


_AS_TEXT: dict[ColumnType, Callable[[Any], str]] = {
    ColumnType.INTEGER: str, ColumnType.NUMBER: _digits, ColumnType.TEXT: _guarded, ColumnType.TIME: _rfc3339
}  # fmt: skip


def _parquet(columns: Sequence[Column], batches: Batches, sink: BinaryIO) -> int:
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the pools of its own take 18 MB more
    import pyarrow as pa  # noqa: PLC0415 - 40 MB that only this format needs
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {
        ColumnType.INTEGER: pa.int64(), ColumnType.NUMBER: pa.float64(), ColumnType.TEXT: pa.string(),
        ColumnType.TIME: pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = pa.schema([(column.name, types[column.type]) for column in columns])
    numbers = [index for index, column in enumerate(columns) if column.type is ColumnType.NUMBER]
    count = waiting = 0
    group: list[Any] = []

    def columnar(batch: Sequence[Sequence[Any]]) -> Any:
        lists = [list(values) for values in zip(*batch, strict=True)]
        for index in numbers:
            lists[index] = [None if value is None else float(value) for value in lists[index]]
        return pa.record_batch(lists, schema=schema)

    with pq.ParquetWriter(sink, schema) as writer:
        for batch in batches:
            if not batch:
                continue
            # A batch at once: as Python's values the rows of a group take several times the room.
            group.append(columnar(batch))
            count, waiting = count + len(batch), waiting + len(batch)
            if waiting >= ROW_GROUP:
                writer.write_table(pa.Table.from_batches(group))
                group, waiting = [], 0
        if group:
            writer.write_table(pa.Table.from_batches(group))
    return count


def _xlsx(name: str, columns: Sequence[Column], batches: Batches, sink: BinaryIO, sheet_rows: int) -> int:
    import xlsxwriter  # noqa: PLC0415 - only this format needs it

    with tempfile.TemporaryDirectory(prefix="withdrawals-xlsx-") as directory:
        book = xlsxwriter.Workbook(sink, {"constant_memory": True, "tmpdir": directory})
        book.use_zip64()  # a full sheet can exceed 2 GB before it is compressed
        style = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        types = [column.type for column in columns]
        count, sheet, next_row = 0, None, sheet_rows
        for batch in _with_header(batches):
            for row in batch:
                if sheet is None or next_row >= sheet_rows:
                    number = len(book.worksheets()) + 1
                    sheet = book.add_worksheet(name if number == 1 else f"{name} {number}")
                    for index, column in enumerate(columns):
                        sheet.write_string(0, index, column.name)
                    next_row = 1
                if row:
                    for index, (type_, value) in enumerate(zip(types, row, strict=True)):
                        if value is not None:
                            _write_cell(sheet, next_row, index, type_, value, style)
                    next_row += 1
                    count += 1
        book.close()
    return count


def _with_header(batches: Batches) -> Batches:
    yield [()]  # a row without cells: an empty result has a sheet with a header, too
    yield from batches


_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # XML 1.0, production 2 (Char)
_FIRST_DAY = datetime(1900, 3, 1, tzinfo=UTC)  # spreadsheets do not agree on the days before it
_EXACT = 10**15  # a spreadsheet keeps fifteen digits of a number


def _write_cell(sheet: Any, row: int, column: int, type_: ColumnType, value: Any, style: Any) -> None:
    if type_ is ColumnType.TEXT:
        lines = value.replace("\r\n", "\n").replace("\r", "\n")  # the only line break in a cell
        sheet.write_string(row, column, _NOT_XML.sub("", lines))
    elif type_ is ColumnType.TIME and value >= _FIRST_DAY:
        sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), style)
    elif type_ is not ColumnType.TIME and math.isfinite(value) and abs(value) < _EXACT:
        sheet.write_number(row, column, value)
    else:
        sheet.write_string(row, column, _AS_TEXT[type_](value))
