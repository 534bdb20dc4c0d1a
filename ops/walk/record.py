"""The record of the last walk, and the page ops/walk.md that shows it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = Path(__file__).with_name("last-run.json")
DOCUMENT = Path(__file__).parents[1] / "walk.md"

_HEAD = """# The walk: from the wheel to a rotated secret

`make walk` does, with real servers and processes, what an operations team does in its first year. It follows the pages
of the documentation, step by step, under a load of single jobs and HR events that does not pause. Each step prints
what it saw. A step that does not see what it must see ends the walk with exit code 1, and says where the logs are.

It needs Prometheus (Debian: `apt-get install prometheus`), the git history with the tag of the previous release, and
pip with an index or the packages at hand; nothing needs root. PostgreSQL is the system's if it is installed, else the
embedded one. `make walk KEEP=/some/folder` works there and leaves everything in place; another walk in that folder does
not install the packages anew.

The load repeats a request with its key until it is answered, as good callers do. At the end each request that was
accepted must be done once, nothing else may have been changed, and `withdrawals check` must be clean. Alerts are
asked by their expression, without the time for which it must last (`for`).

The previous release had no logins of few rights. So its upgrade runs in a database of its own, with the login that may
create roles which that release asked for. Everything else runs as the pages of operations say.

Not part of it: containers, Kubernetes and systemd ([deployment](deploy/README.md) says what was tried), Grafana itself
(its queries are read from the committed dashboards), several machines, TLS.

This file is generated: `python -m ops.walk --page` writes it from `walk/last-run.json`, which each walk writes.
"""


@dataclass(frozen=True, slots=True)
class Walked:
    """A step that was done: which page it followed, what was seen, and how many seconds it took."""

    does: str
    page: str
    saw: str
    seconds: float


def write(ended_at: str, machine: str, steps: list[Walked], *, stopped: str = "", path: Path = RECORD) -> None:
    """Keep a walk. `stopped`: what the step after these did not see, where it was not complete."""
    made = {"ended_at": ended_at, "machine": machine, "stopped": stopped, "steps": [asdict(step) for step in steps]}
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def page(path: Path = RECORD) -> str:
    """The whole page."""
    found = json.loads(path.read_text(encoding="utf-8"))
    steps = [Walked(**step) for step in found["steps"]]
    lines = [_HEAD, f"The last walk ended {found['ended_at']}, on {found['machine']}.\n", "| step | by | seen | s |"]
    lines.append("| --- | --- | --- | --- |")
    lines += [f"| {one.does} | {_link(one.page)} | {one.saw} | {one.seconds:.0f} |" for one in steps]
    if found["stopped"]:
        lines += ["", f"**It was not complete.** {found['stopped']}"]
    return "\n".join(lines) + "\n"


def _link(name: str) -> str:
    """A link to a page, from ops/."""
    place = name.removeprefix("ops/") if name.startswith("ops/") else f"../{name}"
    return f"[{Path(name).stem}]({place})"
