"""The program that turns a workbook into CSV. It is run as a process of its own, see `workbook.py`.

It imports nothing of the service, so that it starts quickly and holds no secret when a hostile file is read.
Exit codes: 0 done, else one of the constants below. Beyond a limit the system ends it with a signal.
"""

import csv
import datetime
import io
import resource
import sys
from typing import Any

import python_calamine

UNREADABLE, LOCKED, NO_SHEET, TOO_LARGE = 3, 4, 5, 6
_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384
"""Of a sheet. A file can name cells beyond."""
_LARGEST_EXACT = 2**53
"""Spreadsheets keep numbers as 64-bit floats: whole numbers beyond this one were rounded."""


def main() -> int:
    """Read a workbook from standard input and write its first visible sheet as CSV to standard output.

    Arguments: the most memory and the most output, in bytes, and the most processor time, in seconds.
    """
    memory, output, seconds = map(int, sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        return _convert()
    except python_calamine.PasswordError:
        return LOCKED
    except (MemoryError, OSError):
        return TOO_LARGE
    except Exception:
        return UNREADABLE


def _convert() -> int:
    book = python_calamine.load_workbook(sys.stdin.buffer)
    shown = [
        sheet.name
        for sheet in book.sheets_metadata
        if sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
        and sheet.visible == python_calamine.SheetVisibleEnum.Visible
    ]
    if not shown:
        return NO_SHEET
    sheet = book.get_sheet_by_name(shown[0])
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", errors="replace")
    writer = csv.writer(out, lineterminator="\n")
    end = sheet.end or (0, 0)
    if end[0] >= _MOST_ROWS or end[1] >= _MOST_COLUMNS:
        return TOO_LARGE
    for row in sheet.iter_rows():  # from the first row of the sheet on, so a row has the number that people see
        cells = [_text(cell) for cell in row]
        if any(cells):
            writer.writerow(cells)
        else:
            out.write("\n")
    out.flush()
    return 0


def _text(cell: Any) -> str:
    """A cell on one line. A whole number is shown without a fraction, one that was rounded with its exponent."""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) <= _LARGEST_EXACT else repr(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return " ".join(str(cell).replace("\0", "\ufffd").splitlines())


if __name__ == "__main__":
    sys.exit(main())
