"""The document of the benchmark, made from the figures of the last whole run: `python -m ops.bench.report`."""

import json
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ops.bench import plot
from ops.bench.results import Measured
from ops.bench.rows import GROUPS, Row

RUN = Path(__file__).with_name("last-run.json")
DOCUMENT = Path(__file__).parents[1] / "bench.md"
PICTURE = Path(__file__).parents[1] / "pictures" / "bench.svg"
PACKAGES = ("withdrawals", "dramatiq", "celery", "procrastinate", "psycopg", "sqlalchemy", "fastapi", "uvicorn")

_HEAD = """# What `make bench` measures, and what came of it

One run on one machine, on the same PostgreSQL and Redis. Both sides of a comparison start from a copy of the same
database, and take turns to be the first. A ratio is this service's value divided by the other's in the same round; the
table shows the median of the rounds and, in brackets, the lowest and highest. Figures of one run are compared with
each other, never with another machine's.

- **The bare receiver** runs under the same web server. It verifies the signature, inserts one row, commits and answers
  ([bare.py](bench/bare.py)). It is written with threads and with asynchronous calls; the faster one is used.
- **Set SQL by hand** only writes: two connections, a thousand enrolments and their outcomes in each transaction
  ([bulk.py](bench/bulk.py)).
- **Dramatiq, Celery and Procrastinate** do one job for each enrolment, tuned as their documentation advises
  ([obvious.py](bench/obvious.py), [with_celery.py](bench/with_celery.py),
  [with_procrastinate.py](bench/with_procrastinate.py)).

`make bench` measures everything in less than 25 minutes. `make bench QUICK=1` is a small version with fewer rows, in
about a minute, to see that it works; `make bench LARGE=1` adds the job of 10 million. A whole run writes
`bench/last-run.json`; `python -m ops.bench.report` writes this file and the picture from it.
"""


def describe_machine() -> dict[str, Any]:
    """Cores, memory and processor; nothing that tells whose machine it is."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8"))):
        model = found[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory), "processor": model}


def versions() -> dict[str, str]:
    """Python and the packages whose speed is compared; those that are not installed are missing."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_run(path: Path = RUN) -> dict[str, Any]:
    """The last whole run; empty without a file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def render(run: Mapping[str, Any]) -> str:
    """The whole document."""
    lines = [_HEAD]
    if not run:
        lines.append("No whole run yet.\n")
    else:
        machine, found = run["machine"], ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines.append(
            f"Measured {run['ended_at']} in {run['seconds'] / 60:.0f} minutes on {machine['cores']} cores "
            f"({machine['processor']}) with {machine['memory_gib']} GiB: {found}.\n"
        )
        lines.append("![What the rows came to, beside what they must reach](pictures/bench.svg)\n")
    rows = {key: Measured(**value) for key, value in run.get("rows", {}).items()}
    for group, members in GROUPS.items():
        lines += [f"## {group}\n", "| what | compared with | must reach | measured | this service | the other |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        lines += [_line(row, rows.get(row.key)) for row in members]
        lines.append("")
    if run.get("notes"):
        lines += ["## What explains the figures\n", "| what | largest value of a round |", "| --- | --- |"]
        lines += [f"| {name} | {number(value)} |" for name, value in run["notes"].items()]
    return "\n".join(lines).rstrip() + "\n"


def summary(rows: Mapping[str, Measured]) -> list[str]:
    """The lines that a run ends with: one a row."""
    lines = []
    for group, members in GROUPS.items():
        lines.append(group)
        for row in members:
            goal, measured = _goal(row), _judged(row, rows.get(row.key))
            lines.append(f"  {row.what + (f', of {row.against}' if row.against else ''):<72}{goal:>16}  {measured}")
    return lines


def number(value: float) -> str:
    """A figure with three digits, and thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(row: Row, found: Measured | None) -> str:
    ours = _median(found.ours, row.unit) if found else ""
    theirs = _median(found.theirs, row.unit) if found else ""
    return f"| {row.what} | {row.against} | {_goal(row)} | {_judged(row, found)} | {ours} | {theirs} |"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    return f"{row.sense} {number(row.goal)}{'' if row.against else ' ' + row.unit}"


def _judged(row: Row, found: Measured | None) -> str:
    """The row's figure with its spread, and whether that is enough; else why there is none."""
    if found is None:
        return "not measured"
    if found.failed:
        return f"**failed**: {found.failed}".replace("|", "/")
    figures = found.figures
    if not figures:
        return "not measured"
    unit = "" if row.against else f" {row.unit}"
    spread = f" ({number(min(figures))} to {number(max(figures))})" if len(figures) > 1 else ""
    text = f"{number(found.median)}{unit}{spread}"
    return text if row.reaches(found.median) else f"**{text}, not reached**"


def _median(values: list[float], unit: str) -> str:
    return f"{number(Measured(values).median)} {unit}".replace(" /s", "/s") if values else ""


def main() -> None:
    """Write the document and its picture."""
    run = read_run()
    DOCUMENT.write_text(render(run), encoding="utf-8")
    if run:
        PICTURE.write_text(plot.draw(run), encoding="utf-8")


if __name__ == "__main__":
    main()
