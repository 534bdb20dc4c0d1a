"""The documents about failures say what the tests do: the table of `make chaos`, and the claims with their tests."""

import re
from pathlib import Path

from ops.chaos.scenarios import SCENARIOS, Scenario
from ops.chaos.table import DOCUMENT, KEPT, Record, Run, add_run, read_runs, render, summary

ROOT = Path(__file__).parents[2]
GUARANTEES = ROOT / "ops" / "guarantees.md"


def test_the_table_in_the_documents_is_made_from_the_last_runs() -> None:
    """When this fails: `python -m ops.chaos`."""
    assert DOCUMENT.read_text(encoding="utf-8") == render(read_runs())


def test_every_scenario_in_the_table_has_a_test_and_every_test_a_place_in_the_table() -> None:
    marked = [
        name
        for path in (ROOT / "tests" / "faults").glob("*.py")
        for name in re.findall(r'mark\.scenario\("([\w-]+)"', path.read_text(encoding="utf-8"))
    ]
    assert sorted(marked) == sorted(scenario.name for scenario in SCENARIOS)


def test_every_test_that_a_claim_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", GUARANTEES.read_text(encoding="utf-8"))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 30
    assert sorted(set(named) - there) == []


def test_every_line_of_the_claims_names_a_test() -> None:
    lines = [line for line in GUARANTEES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert [line for line in lines if "`test_" not in line] == []


def test_the_kept_runs_are_the_last_three(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    for seed in range(5):
        add_run(seed, [Record("storms", seed, accepted=10, lost=seed)], path)
    assert [run.seed for run in read_runs(path)] == [2, 3, 4]
    assert read_runs(path)[-1].records == [Record("storms", 4, accepted=10, lost=4)]
    assert KEPT == 3


def test_the_table_sums_the_runs_and_says_what_failed_or_was_skipped() -> None:
    scenarios = [Scenario("a", "does a", "found a"), Scenario("b", "does b"), Scenario("c", "does c")]
    runs = [
        Run(1, "then", [Record("a", 1, accepted=1000, lost=1), Record("b", 1, skipped="needs root")]),
        Run(2, "now", [Record("a", 2, accepted=1500, double=2, wrong=3, problems=["bad"])]),
    ]
    text = render(runs, scenarios)
    assert "seed 1, then; seed 2, now" in text
    assert "| `a`: does a | 2, 1 failed | 2,500 | 1 | 2 | 3 | found a |" in text
    assert "| `b`: does b | needs root | | | | | nothing |" in text
    assert "| `c`: does c | not run yet | | | | | nothing |" in text


def test_the_summary_of_a_run_has_a_line_for_each_scenario_and_each_problem() -> None:
    lines = summary([Record("a", 1, accepted=5, problems=["bad"]), Record("b", 1, skipped="needs root")])
    assert [line.split()[0] for line in lines] == ["scenario", "a", "bad", "b"]
    assert "needs root" in lines[-1]
