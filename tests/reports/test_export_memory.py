"""An export of any length needs the memory of a short one."""

import subprocess
import sys

import pytest

_WRITE = """
import resource, sys, tempfile
from pathlib import Path
from datetime import UTC, datetime
from worker.reports.formats import Column, ColumnType, Format, write
many = int(sys.argv[2]) // 1000
early = 0
def peak():
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone: what getrusage says begins with what started it
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def batches():
    global early
    for b in range(many):
        yield [(*(f"cell {b} {r} {c} of some length" for c in range(6)), at, r) for r in range(1000)]
        if b == many // 4:
            early = peak()
columns = [Column(str(n), ColumnType.TEXT) for n in range(6)]
columns += [Column("at", ColumnType.TIME), Column("id", ColumnType.INTEGER)]
at = datetime(2026, 3, 1, tzinfo=UTC)
with tempfile.TemporaryFile() as sink:
    write(Format(sys.argv[1]), "report", columns, batches(), sink)
print(early, peak())
"""


@pytest.mark.parametrize(
    ("format_", "rows", "most"),
    [
        ("csv", 100_000, 15),
        pytest.param("xlsx", 20_000, 10, marks=pytest.mark.long),
        pytest.param("parquet", 200_000, 50, marks=pytest.mark.long),
    ],
)
def test_memory_does_not_grow_with_the_rows(format_: str, rows: int, most: int) -> None:
    """Between a quarter of the rows and all of them; in memory these would be two to three times `most` (MB).

    Small: one of three formats, whose rows come from the same reader.
    """
    ended = subprocess.run(
        [sys.executable, "-c", _WRITE, format_, str(rows)], capture_output=True, check=True, timeout=600
    )
    early, peak = map(int, ended.stdout.split())
    assert 0 < early <= peak < early + most
    assert peak < 250
