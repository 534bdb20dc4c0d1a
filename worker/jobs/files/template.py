"""A file to fill in: the header that every organisation can use, and no example, which somebody would leave in it."""

import io
from collections.abc import Sequence

from worker.jobs.files.faults import guarded

HEADER = ("Learner", "Series")
"""As people write them; `columns.py` knows them."""
MOST_SERIES = 10_000


def as_csv() -> bytes:
    """CSV that every spreadsheet opens: UTF-8 with a byte order mark."""
    return (",".join(HEADER) + "\r\n").encode("utf-8-sig")


def as_workbook(known: Sequence[tuple[str, str]]) -> bytes:
    """XLSX whose first sheet is filled in; the second has the codes and titles of the Series.

    Cells are text, so that an id such as 00123 keeps its zeros.
    """
    import xlsxwriter  # noqa: PLC0415 - only this format needs it

    made = io.BytesIO()
    book = xlsxwriter.Workbook(made, {"in_memory": True})
    bold, plain = book.add_format({"bold": True}), book.add_format({"num_format": "@"})
    sheet = book.add_worksheet("Withdraw")
    sheet.set_column(0, len(HEADER) - 1, 30, plain)
    for place, name in enumerate(HEADER):
        sheet.write_string(0, place, name, bold)
    codes = book.add_worksheet("Series")
    codes.set_column(0, 0, 20, plain)
    codes.set_column(1, 1, 60, plain)
    for row, cells in enumerate([("Code", "Title"), *sorted(known)]):
        for place, cell in enumerate(cells):
            codes.write_string(row, place, guarded(cell), bold if row == 0 else None)
    book.close()
    return made.getvalue()
