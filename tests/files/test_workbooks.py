"""XLSX and ODS: read like CSV, in a process with limits, so that no workbook harms the service."""

import datetime
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.workbooks import ods, raw_xlsx, xlsx
from worker.errors import InvalidInputError
from worker.jobs.files import rows, workbook
from worker.jobs.files.faults import Faults
from worker.jobs.files.rows import Asked

HEADER = ["Enrolment ID", "E-mail", "Series"]


def read(content: bytes) -> tuple[list[Asked], Faults]:
    faults = Faults()
    with rows.opened(io.BytesIO(content)) as table:
        return list(table.rows(faults).asked()), faults


def test_a_workbook_is_read_like_csv_and_rows_keep_their_numbers() -> None:
    content = xlsx([HEADER, [7, "", ""], [], ["8", "x", "y"], ["", "anna@example.org", "0012"]], first_row=2)
    found, faults = read(content)
    assert not faults.count
    assert [(row.line, row.enrolment_id, row.email, row.series_code) for row in found] == [
        (4, 7, None, None), (6, 8, None, None), (7, None, "anna@example.org", "0012")
    ]  # fmt: skip


def test_an_open_document_is_read_too() -> None:
    found, faults = read(ods([HEADER, ["7", "", ""], ["", "anna@example.org", "FIRE"]], repeat=3))
    assert not faults.count
    assert [row.line for row in found] == [2, 3, 4, 5]
    assert found[0].enrolment_id == 7


def test_what_is_no_id_in_a_cell_is_a_fault_of_its_row() -> None:
    day = datetime.date(2026, 3, 1)
    content = xlsx([["enrolment_id"], [1.5], [True], [day], [float(2**60)], ["=1+1"], ["two\nlines"], [3]])
    found, faults = read(content)
    assert [row.enrolment_id for row in found if row.enrolment_id != 0] == [3]
    assert [fault.line for fault in faults.first] == [2, 3, 4, 5, 6, 7]


def test_only_the_first_visible_sheet_is_read() -> None:
    import xlsxwriter

    made = io.BytesIO()
    book = xlsxwriter.Workbook(made)
    hidden, shown, other = (book.add_worksheet(name) for name in ("Old", "Leavers", "Notes"))
    hidden.hide()
    shown.activate()
    shown.set_first_sheet()
    for sheet, value in ((hidden, 1), (shown, 2), (other, 3)):
        sheet.write_column(0, 0, ["enrolment_id", value])
    book.close()
    found, _ = read(made.getvalue())
    assert [row.enrolment_id for row in found] == [2]


def _zip(**parts: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return made.getvalue()


def _encrypted() -> bytes:
    plain = bytearray(raw_xlsx(""))
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = plain.find(start)
        while place >= 0:
            plain[place + (6 if start == b"PK\x03\x04" else 8)] |= 1
            place = plain.find(start, place + 4)
    return bytes(plain)


_LAUGHS = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "{}">]>'.format("&a;" * 1000)
HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "a cell in the last row and column": (raw_xlsx(
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'), "too large"),
    "a row number beyond every sheet": (raw_xlsx('<row r="4294967295"><c r="A4294967295"><v>1</v></c></row>'), ""),
    "a column beyond every sheet": (raw_xlsx('<row r="1"><c r="ZZZZZZ1"><v>1</v></c></row>'), ""),
    "text that unpacks without end": (lambda: raw_xlsx(  # made when it is needed: it takes a second
        '<row r="1"><c r="A1" t="inlineStr"><is><t>' + "x" * 300_000_000 + "</t></is></c></row>"), ""),
    "entities of entities": (raw_xlsx(
        '<row r="1"><c r="A1" t="inlineStr"><is><t>&b;&b;</t></is></c></row>', doctype=_LAUGHS), ""),
    "text that is no number": (raw_xlsx('<row r="1"><c r="A1"><v>one</v></c></row>'), ""),
    "an unknown shared text": (raw_xlsx('<row r="1"><c r="A1" t="s"><v>99</v></c></row>'), ""),
    "half a workbook": (xlsx([["enrolment_id"], [1]])[:-200], "damaged"),
    "an archive that is no workbook": (_zip(**{"ids.csv": b"enrolment_id\n1\n"}), "neither XLSX nor ODS"),
    "an archive that says it is one": (_zip(xl__workbook=b"<x/>", mimetype=b"x"), "neither"),
    "an empty workbook": (_zip(**{"xl/workbook.xml": b""}), "damaged"),
    "no archive": (b"PK\x03\x04" + b"\0" * 1000, "damaged"),
    "an archive with a password": (_encrypted(), "password"),
    "an old Excel file, or one with a password": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 5000, "old Excel file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_workbook_is_refused_whole_or_by_line(name: str) -> None:
    content, said = HOSTILE[name]
    try:
        found, faults = read(content() if callable(content) else content)
    except InvalidInputError as refused:
        assert said in str(refused)
        assert len(str(refused)) < 300
    else:
        assert not said
        assert not found
        assert faults.count


@pytest.mark.parametrize("parts", [60_000, 70_000])
def test_a_huge_directory_is_refused_before_it_is_read(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than 65,535 parts its length stands in the record of ZIP64."""
    made, read_parts = io.BytesIO(), 0
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("xl/workbook.xml", b"")
        archive.filelist *= parts

    class Counted(zipfile.ZipInfo):
        def __init__(self, *given: Any) -> None:
            nonlocal read_parts
            read_parts += 1
            super().__init__(*given)

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    with pytest.raises(InvalidInputError, match="too large"):
        read(made.getvalue())
    assert not read_parts


def test_a_conversion_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "SECONDS", 0)
    with pytest.raises(InvalidInputError, match="too large"):
        read(xlsx([["enrolment_id"], *([n] for n in range(1, 20_000))]))


def test_a_conversion_writes_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "OUTPUT", 1000)
    with pytest.raises(InvalidInputError, match="too large"):
        read(xlsx([["enrolment_id"], *([n] for n in range(1, 2_000))]))


def test_the_converter_holds_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "a-key")
    assert not any(name.startswith(("WITHDRAWALS", "DATABASE", "BROKER")) for name in workbook._ENVIRONMENT)
