"""A roster as Parquet: read by a process of its own, and refused by line, whatever the file says about itself."""

import datetime
import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.errors import InvalidInputError
from worker.people import roster_file


def parquet(columns: Any, **options: Any) -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.table(columns), made, **options)
    return made.getvalue()


def read(content: bytes) -> list[tuple[int, str, bool]]:
    with roster_file.opened(io.BytesIO(content)) as table:
        people = list(table.people())
        assert table.faults.count == 0
        return people


def test_a_roster_of_any_flat_types_and_row_groups_is_read() -> None:
    """Numbers are ids as a person writes them; lists and structures are passed over, as they name nobody."""
    columns = {
        "Employee ID": pa.array([1, 2, 30000], pa.int64()),
        "tags": [["a"], [], None],
        "home": [{"city": "Bern"}, None, None],
        "Status": pa.array(["Active", "terminated", "on leave"]).dictionary_encode(),
        "since": [datetime.date(2020, 1, 1), None, None],
        'a;b, "c"\nd': [1.5, None, 2.0],
    }
    assert read(parquet(columns, row_group_size=2)) == [(2, "1", True), (3, "2", False), (4, "30000", True)]
    formula = {"external_id": ["=HYPERLINK(1)", "two\nlines"], "active": [True, False]}
    assert read(parquet(formula)) == [(2, "=HYPERLINK(1)", True), (3, "two lines", False)], "text stays text"


def _not_utf8() -> bytes:
    ids = pa.Array.from_buffers(pa.string(), 2, pa.array([b"anna", b"\xff\xfe"]).buffers())
    return parquet({"external_id": ids})


def _good() -> bytes:
    return parquet({"external_id": ["anna"] * 100})


def _one_large_value() -> bytes:
    rows = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 1_500), pa.array(["x" * 3_000_000]))
    return parquet({"external_id": rows}, compression="zstd", dictionary_pagesize_limit=2**30)


def _many_rows() -> bytes:
    return parquet({"external_id": pa.repeat("anna", 1_100_000).dictionary_encode()})


# Made by the test that reads it: what is made as the module is imported, every process of the suite pays for.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "one value, in more rows than a roster has": (_many_rows, "more than 1,048,576 rows"),
    "one value of megabytes, in many rows": (_one_large_value, "too large"),
    "a million columns, or a few less": (
        lambda: parquet({f"c{n}": [n] for n in range(16_385)}),
        "more than 16,384 columns",
    ),
    "a NUL": (lambda: parquet({"external_id": ["anna", "b\0en"]}), "Line 3: has a NUL byte"),
    "no text": (_not_utf8, "Line 3: has a value that is not text"),
    "a person without an id": (lambda: parquet({"external_id": ["anna", None, "ben"]}), "Line 3: is empty"),
    "a list of ids": (lambda: parquet({"external_id": [["anna"], ["ben"]]}), "empty"),
    "half a file": (lambda: _good()[: len(_good()) // 2], "damaged"),
    "a place beyond the file": (lambda: _good()[:4] + b"\xff" * (len(_good()) - 8) + _good()[-4:], "damaged"),
    "an encrypted file": (lambda: b"PARE" + _good()[4:-4] + b"PARE", "encrypted"),
}


@pytest.mark.part(2)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_parquet_file_is_refused_by_line_or_whole(name: str) -> None:
    make, said = HOSTILE[name]
    content = make()
    with pytest.raises(InvalidInputError, match=said) as refused:
        read(content)
    assert len(str(refused.value)) < 300
