"""The three formats: what is in a cell comes out as it was, and nothing in it runs."""

import csv
import io
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow.parquet as pq

from worker.reports.formats import Column, ColumnType, Format, write

COLUMNS = (
    Column("id", ColumnType.INTEGER),
    Column("title", ColumnType.TEXT),
    Column("progress", ColumnType.NUMBER),
    Column("at", ColumnType.TIME),
)
AT = datetime(2026, 3, 1, 8, 0, 0, 250_000, tzinfo=UTC)
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x","y")', "＝1+1"]  # noqa: RUF001


def written(format_: Format, *rows: tuple[Any, ...], **more: Any) -> bytes:
    sink = io.BytesIO()
    half = len(rows) // 2
    assert write(format_, "enrolments", COLUMNS, [rows[:half], rows[half:]], sink, **more) == len(rows)
    return sink.getvalue()


def as_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))


def as_sheets(data: bytes) -> dict[str, list[tuple[Any, ...]]]:
    book = openpyxl.load_workbook(io.BytesIO(data))
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}


def as_table(data: bytes) -> Any:
    return pq.read_table(io.BytesIO(data))


def test_a_formula_in_every_cell_is_text_in_csv() -> None:
    found = as_csv(written(Format.CSV, *((number, text, None, None) for number, text in enumerate(FORMULAS))))
    assert [row[1] for row in found[1:]] == [f"'{text}" for text in FORMULAS]


def test_a_formula_in_every_cell_is_text_in_xlsx() -> None:
    data = written(Format.XLSX, *((number, text, None, None) for number, text in enumerate(FORMULAS)))
    (sheet,) = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    cells = [row[1] for row in sheet.iter_rows(min_row=2)]
    assert {cell.data_type for cell in cells} <= {"s", "inlineStr"}
    assert [str(cell.value).strip() for cell in cells] == [text.strip() for text in FORMULAS]


def test_parquet_keeps_formulas_as_they_are() -> None:
    found = as_table(written(Format.PARQUET, *((number, text, None, None) for number, text in enumerate(FORMULAS))))
    assert found["title"].to_pylist() == FORMULAS


def test_a_number_stays_a_number_also_below_zero() -> None:
    rows = [(1, "a", Decimal("-1.50"), AT), (2, "b", Decimal("1E+2"), None), (2**62, "c", Decimal("NaN"), None)]
    assert [row[2] for row in as_csv(written(Format.CSV, *rows))] == ["progress", "-1.50", "100", "NaN"]
    (sheet,) = as_sheets(written(Format.XLSX, *rows)).values()
    assert [row[2] for row in sheet[1:]] == [-1.5, 100, "NaN"]
    assert sheet[3][0] == str(2**62), "a spreadsheet would round it"
    table = as_table(written(Format.PARQUET, *rows))
    assert [str(field.type) for field in table.schema] == ["int64", "string", "double", "timestamp[us, tz=UTC]"]
    assert table["id"].to_pylist()[2] == 2**62
    assert table["progress"].to_pylist()[:2] == [-1.5, 100.0]


def test_times_are_in_utc() -> None:
    row = (1, "a", None, AT.astimezone(timezone(timedelta(hours=5))))
    assert as_csv(written(Format.CSV, row))[1][3] == "2026-03-01T08:00:00.250000Z"
    (sheet,) = as_sheets(written(Format.XLSX, row)).values()
    assert abs(sheet[1][3] - AT.replace(tzinfo=None)) < timedelta(milliseconds=1)
    assert as_table(written(Format.PARQUET, row))["at"].to_pylist() == [AT]
    old = (1, "a", None, datetime(202, 1, 1, tzinfo=UTC))
    (sheet,) = as_sheets(written(Format.XLSX, old)).values()
    assert sheet[1][3] == "0202-01-01T00:00:00Z", "before the time of spreadsheets"


def test_what_xml_cannot_hold_is_dropped_and_csv_quotes_the_rest() -> None:
    hard = 'a\x01b\x1f\x0b "quoted", ünï\r\nline two 🎓￿'
    assert as_csv(written(Format.CSV, (1, hard, None, None)))[1][1] == hard
    (sheet,) = as_sheets(written(Format.XLSX, (1, hard, None, None))).values()
    assert sheet[1][1] == 'ab "quoted", ünï\nline two 🎓'
    assert as_table(written(Format.PARQUET, (1, hard, None, None)))["title"].to_pylist() == [hard]


def test_further_sheets_take_what_one_cannot_hold() -> None:
    found = as_sheets(written(Format.XLSX, *((number, "t", None, None) for number in range(7)), sheet_rows=4))
    assert list(found) == ["enrolments", "enrolments 2", "enrolments 3"]
    assert {rows[0] for rows in found.values()} == {("id", "title", "progress", "at")}
    assert [row[0] for rows in found.values() for row in rows[1:]] == list(range(7))
    assert [len(rows) for rows in found.values()] == [4, 4, 2]


def test_an_empty_result_has_its_header() -> None:
    names = [column.name for column in COLUMNS]
    assert written(Format.CSV) == b"id,title,progress,at\r\n"
    assert as_sheets(written(Format.XLSX)) == {"enrolments": [tuple(names)]}
    table = as_table(written(Format.PARQUET))
    assert (table.column_names, table.num_rows) == (names, 0)


def test_parquet_is_written_in_groups() -> None:
    data = written(Format.PARQUET, *((number, "t", None, None) for number in range(50_000)))
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups > 1
