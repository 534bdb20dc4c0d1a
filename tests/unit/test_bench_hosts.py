"""The figures of more than one machine: kept by the measurement, and shown as they were kept."""

import json
from dataclasses import replace
from pathlib import Path

from ops.bench.growth import PAGE, Growth, Step, add, insert, read, render

RUN = Growth(
    "2026-11-28T10:00+00:00", {"cores": 2}, {"linux": "6.18", "python": "3.11.7", "postgresql": "18.1"},
    12_000, 0.12, None, 20, [Step(1, 400, 0.05, 0.1), Step(2, 800, 0.09, 0.2)],
)  # fmt: skip


def test_the_page_shows_the_figures_that_were_kept() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert insert(page, read()) == page, "run `python -m ops.bench.growth`"
    for run in read():
        assert f"| {len(run.steps)} | {run.steps[-1].rate:,.0f} |" in page


def test_a_run_replaces_the_last_one_of_its_kind(tmp_path: Path) -> None:
    confined = replace(RUN, limit=0.1, steps=[Step(1, 400, 0.06, 0.1), Step(2, 500, 0.1, 0.2), Step(3, 510, 0.1, 0.2)])
    file = tmp_path / "runs.json"
    for run in (confined, RUN, replace(RUN, size=1), confined):
        add(run, file)
    assert [(one.limit, one.size) for one in read(file)] == [(None, 1), (0.1, 12_000)]
    assert json.loads(file.read_text(encoding="utf-8"))[1]["steps"][2]["rate"] == 510
    told = render(read(file))
    assert "it was not the limit" in told
    assert "From 2 hosts on PostgreSQL used nearly all" in told
    assert "| 3 | 510 | 1.27 | 0.10 | 0.20 |" in told
