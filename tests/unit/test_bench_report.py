"""The document of the benchmark says what its figures say."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from ops.bench import plot
from ops.bench.report import DOCUMENT, PICTURE, describe_machine, read_run, render, summary
from ops.bench.results import Measured, Results
from ops.bench.rows import ROWS

BENCH = Path(__file__).parents[2] / "ops" / "bench"
RUN = {
    "ended_at": "2026-01-01T00:00+00:00",
    "seconds": 600,
    "machine": {"cores": 2, "memory_gib": 8, "processor": "a processor"},
    "versions": {"python": "3.11"},
    "rows": {
        "door.events": {"ours": [90.0, 80.0, 70.0], "theirs": [100.0, 100.0, 100.0], "failed": ""},
        "door.singles": {"ours": [10.0], "theirs": [100.0], "failed": ""},
        "door.drain": {"ours": [1.5], "theirs": [], "failed": ""},
        "bulk.celery": {"ours": [], "theirs": [], "failed": "BenchError: the workers are not ready"},
    },
    "notes": {"the client's share of a core in a storm": 0.1},
}


def test_the_document_of_the_benchmark_is_made_from_the_last_run() -> None:
    """When this fails: `python -m ops.bench.report`."""
    assert DOCUMENT.read_text(encoding="utf-8") == render(read_run())
    if run := read_run():
        assert PICTURE.read_text(encoding="utf-8") == plot.draw(run)


def test_a_row_shows_its_median_ratio_with_its_spread_and_what_it_must_reach() -> None:
    line = "| HR events accepted in a storm | the bare receiver | at least 0.8 | 0.8 (0.7 to 0.9) | 80/s | 100/s |"
    assert line in render(RUN)
    assert "|  | at most 2 s | 1.5 s | 1.5 s |  |" in render(RUN)


def test_what_was_not_reached_failed_or_not_measured_is_shown_as_that() -> None:
    text = render(RUN)
    assert "| **0.1, not reached** | 10/s | 100/s |" in text
    assert "| **failed**: BenchError: the workers are not ready |" in text
    assert "| bulk job by filter | set SQL by hand | at least 0.8 | not measured |  |  |" in text
    assert any("not reached" in line for line in summary({"door.singles": Measured([10.0], [100.0])}))


def test_the_picture_has_a_bar_for_every_measured_row_that_has_a_goal() -> None:
    picture = ElementTree.fromstring(plot.draw(RUN))  # noqa: S314 - made here
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3  # the background, and three rows


def test_rounds_are_paired() -> None:
    results = Results()
    results.add("door.events", 50, 100)
    results.add("door.events", 90, 100)
    assert results.rows["door.events"].ratios == [0.5, 0.9]
    assert json.loads(json.dumps(results.as_json()))["rows"]["door.events"]["ours"] == [50, 90]


def test_every_row_that_the_code_measures_is_in_the_table() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in BENCH.glob("*.py") if path.name != "rows.py")
    named = set(re.findall(r'"((?:door|bulk|growth|latency|idle|acts|memory)\.[a-z0-9.]+)"', code))
    assert named - {row.key for row in ROWS} == set()
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_the_machine_is_described_without_a_name_or_a_path() -> None:
    assert describe_machine().keys() == {"cores", "memory_gib", "processor"}
    assert "/" not in str(describe_machine()["processor"]).replace("w/", "")
