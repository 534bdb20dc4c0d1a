"""The table of ops/chaos.md, made from the catalogue of scenarios and from the figures of the last runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ops.chaos.scenarios import SCENARIOS, Scenario

RUNS = Path(__file__).with_name("last-run.json")
DOCUMENT = Path(__file__).parents[1] / "chaos.md"
KEPT = 3
"""Runs that are kept and shown: so many in a row must be without a fault."""

_HEAD = """# What `make chaos` does, and what came of it

`make chaos` breaks whatever the service stands on while requests arrive, and compares the end with what was accepted.
*Lost*: accepted, and neither done nor in front of support. *Double*: done twice. *Wrong*: another outcome than the
rules give, or a change that nobody asked for. Every scenario ends with `withdrawals check`.

Each scenario takes its random choices from its seed. `make chaos CHAOS_SEED=7` repeats a run;
`make chaos CHAOS_ONLY=redis-frozen` runs one scenario.

This file is generated: `python -m ops.chaos` writes it from `chaos/last-run.json`, which each complete run writes, and
[scenarios.py](chaos/scenarios.py).
"""


@dataclass(slots=True)
class Record:
    """What one run of one scenario came to. The figures count ids of enrolments of jobs, and events."""

    scenario: str
    seed: int
    accepted: int = 0
    lost: int = 0
    double: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)
    """What the check of the books, or the scenario itself, found wrong."""
    skipped: str = ""
    """Why it could not run on this machine."""

    @property
    def clean(self) -> bool:
        """Whether it ran and nothing was lost, doubled or wrong."""
        return not (self.lost or self.double or self.wrong or self.problems or self.skipped)

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Self:
        return cls(**found)


@dataclass(slots=True)
class Run:
    """One `make chaos`."""

    seed: int
    ended_at: str
    records: list[Record]


def read_runs(path: Path = RUNS) -> list[Run]:
    """The kept runs, oldest first; none without a file."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Run(run["seed"], run["ended_at"], [Record.load(item) for item in run["records"]]) for run in found]


def add_run(seed: int, records: Sequence[Record], path: Path = RUNS) -> None:
    """Add a run to the kept ones, and forget the oldest above three."""
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    runs = [*read_runs(path), Run(seed, ended, list(records))][-KEPT:]
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n", encoding="utf-8")


def render(runs: Sequence[Run], scenarios: Sequence[Scenario] = SCENARIOS) -> str:
    """The whole document."""
    lines = [_HEAD]
    if runs:
        lines.append("The last runs: " + "; ".join(f"seed {run.seed}, {run.ended_at}" for run in runs) + ".\n")
    lines.append("| scenario | runs | accepted | lost | double | wrong | what it found, and what was changed |")
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for scenario in scenarios:
        records = [item for run in runs for item in run.records if item.scenario == scenario.name]
        lines.append(f"| `{scenario.name}`: {scenario.does} | {_figures(records)} | {scenario.found} |")
    return "\n".join(lines) + "\n"


def summary(records: Sequence[Record]) -> list[str]:
    """The lines that `make chaos` ends with: one a scenario."""
    lines = [f"{'scenario':<26}{'seed':>12}{'accepted':>10}{'lost':>6}{'double':>8}{'wrong':>7}"]
    for item in records:
        figures = f"{item.accepted:>10,}{item.lost:>6}{item.double:>8}{item.wrong:>7}"
        lines.append(
            f"{item.scenario:<26}{item.seed:>12}" + (f"  skipped: {item.skipped}" if item.skipped else figures)
        )
        lines += [f"    {problem}" for problem in item.problems]
    return lines


def _figures(records: Sequence[Record]) -> str:
    """Runs, accepted, lost, double and wrong of one scenario over the kept runs."""
    ran = [item for item in records if not item.skipped]
    if not ran:
        return f"{records[-1].skipped if records else 'not run yet'} | | | |"
    failed = sum(bool(item.problems) for item in ran)
    runs = f"{len(ran)}" + (f", {failed} failed" if failed else "")
    sums = [sum(getattr(item, name) for item in ran) for name in ("accepted", "lost", "double", "wrong")]
    return " | ".join([runs, *(f"{figure:,}" for figure in sums)])
