"""`make bench`: the service beside a bare receiver, set SQL and three other queues, on the same servers in one run.

A row that fails is shown as failed and does not keep the others from being measured. Exit code 1 when one failed.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ops.bench import acts, bulk, door, idle, report
from ops.bench.results import Results
from ops.bench.site import Site, open_site

GROUPS = ("door", "bulk", "idle", "acts")
HUGE = 10_000_000


def main() -> None:
    """Measure, print the table, and keep the figures of a whole run."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything; its figures are not kept")
    parser.add_argument("--large", action="store_true", help="also a bulk job of 10 million enrolments")
    parser.add_argument("--only", choices=GROUPS, action="append", help="this group alone; its figures are not kept")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    began, results = time.monotonic(), Results()
    with open_site(settle=0.2 if arguments.quick else 1.5) as site:
        versions = report.versions() | {"postgresql": site.version(), "redis": site.redis_version()}
        for name, run in groups(quick=arguments.quick, large=arguments.large).items():
            if not arguments.only or name in arguments.only:
                results.say(f"--- {name}")
                with results.attempt(name):
                    run(site, results)
    found = {
        "ended_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "seconds": round(time.monotonic() - began),
        "machine": report.describe_machine(),
        "versions": versions,
        **results.as_json(),
    }
    text = json.dumps(found, indent=1) + "\n"
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")
    if not arguments.quick and not arguments.only:
        report.RUN.write_text(text, encoding="utf-8")
        report.main()
    print("\n".join(report.summary(results.rows)))
    sys.exit(any(row.failed for row in results.rows.values()))


def groups(*, quick: bool, large: bool) -> dict[str, Callable[[Site, Results], None]]:
    """What measures each group of rows, with how much of everything."""
    of_bulk = bulk.QUICK if quick else bulk.Amount()
    if large:
        of_bulk = dataclasses.replace(of_bulk, large=1_000_000, huge=HUGE)
    return {
        "door": lambda site, results: door.run(site, results, door.QUICK if quick else door.Amount()),
        "bulk": lambda site, results: bulk.run(site, results, of_bulk),
        "idle": lambda site, results: idle.run(site, results, idle.QUICK if quick else idle.Amount()),
        "acts": lambda site, results: acts.run(site, results, acts.QUICK if quick else acts.Amount()),
    }


if __name__ == "__main__":
    main()
