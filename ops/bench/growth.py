"""What more machines bring: the figures of `python -m ops.bench.hosts --keep`, and the page that shows them.

`python -m ops.bench.growth` writes the tables into docs/operations/more-than-one-machine.md anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("last-hosts.json")
PAGE = Path(__file__).parents[2] / "docs" / "operations" / "more-than-one-machine.md"
BEGIN, END = "<!-- figures of python -m ops.bench.hosts -->\n", "<!-- end of the figures -->\n"
_FULL = 0.9
"""Of its part of a core: with more than this, PostgreSQL is the limit."""


@dataclass(frozen=True, slots=True)
class Step:
    """So many machines, the rate that they came to, and the processor cores that both sides used."""

    hosts: int
    rate: float
    database: float
    used: float


@dataclass(frozen=True, slots=True)
class Growth:
    """One run: one machine, two, and so on."""

    ended_at: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    size: int
    share: float
    limit: float | None
    """PostgreSQL's part of a processor core; None: no limit."""
    chunk: int
    steps: Sequence[Step]


def read(path: Path = RUNS) -> list[Growth]:
    """The kept runs; none without a file."""
    if not path.exists():
        return []
    return [Growth(**{**run, "steps": [Step(**step) for step in run["steps"]]}) for run in json.loads(path.read_text())]


def add(run: Growth, path: Path = RUNS) -> None:
    """Keep a run in place of the last one of its kind: with a limit of PostgreSQL, or without."""
    kept = [one for one in read(path) if (one.limit is None) is not (run.limit is None)]
    runs = sorted([*kept, run], key=lambda one: one.limit is not None)
    path.write_text(json.dumps([asdict(one) for one in runs], indent=1) + "\n", encoding="utf-8")


def line(step: Step, first: Step) -> str:
    """One row of the table."""
    return f"| {step.hosts} | {step.rate:,.0f} | {step.rate / first.rate:.2f} | {step.database:.2f} | {step.used:.2f} |"


def render(runs: Sequence[Growth]) -> str:
    """The part of the page between the two marks."""
    return "\n".join(_tell(run) for run in runs)


def insert(page: str, runs: Sequence[Growth]) -> str:
    """The page with these figures."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + render(runs) + "\n" + END + rest.partition(END)[2]


def _tell(run: Growth) -> str:
    database = "PostgreSQL has no limit" if run.limit is None else f"PostgreSQL has {run.limit:g} of a core"
    lines = [
        f"A job of {run.size:,} enrolments in chunks of {run.chunk}. Each host has {run.share:g} of a processor core, "
        f"{database}. Measured {run.ended_at[:10]} on a machine with {run.machine['cores']} cores, "
        f"Linux {run.versions['linux']}, Python {run.versions['python']}, PostgreSQL {run.versions['postgresql']}:",
        "",
        "| hosts | enrolments a second | of one host | PostgreSQL used, of a core | hosts used, of a core |",
        "| --- | --- | --- | --- | --- |",
        *(line(step, run.steps[0]) for step in run.steps),
        "",
        _conclude(run),
        "",
    ]
    return "\n".join(lines)


def _conclude(run: Growth) -> str:
    """What the figures say, and what they do not."""
    full = [step for step in run.steps if run.limit is not None and step.database >= _FULL * run.limit]
    most = max(step.database for step in run.steps)
    if full:
        first = full[0].hosts
        hosts = f"{first} host{'s' if first > 1 else ''}"
        return f"From {hosts} on PostgreSQL used nearly all that it was given: it is the limit."
    cores = f"at most {most:.2f} of a core"
    return f"PostgreSQL used {cores}, so it was not the limit; the figures do not say where it becomes one."


def main() -> None:
    """Write the figures into the page."""
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
