"""`make walk`: do every step, print what each saw, and keep the record."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from ops.walk import record
from ops.walk.site import Site
from ops.walk.steps import STEPS
from ops.walk.waiting import WalkError


def main() -> int:
    """Walk; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", type=Path, help="work in this folder, and leave it; installations there are used again"
    )
    parser.add_argument("--record", action="store_true", help="write ops/walk/last-run.json and ops/walk.md")
    parser.add_argument("--page", action="store_true", help="only write ops/walk.md from the last record")
    given = parser.parse_args()
    if given.page:
        record.DOCUMENT.write_text(record.page(), encoding="utf-8")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = (given.keep or Path(tempfile.mkdtemp(prefix="withdrawals-walk-"))).resolve()
    _prepare(folder)
    steps, stopped = _walk(folder)
    if given.record:
        record.write(datetime.now(UTC).isoformat(timespec="seconds"), _machine(), steps, stopped=stopped)
        record.DOCUMENT.write_text(record.page(), encoding="utf-8")
    if stopped:
        return 1
    if not given.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _prepare(folder: Path) -> None:
    """An empty folder, but for what was installed there before; the database's own user must reach it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for left in folder.iterdir():
        if left.name not in ("release", "previous"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _walk(folder: Path) -> tuple[list[record.Walked], str]:
    """Do every step; those that were done, and what stopped the walk if something did."""
    done: list[record.Walked] = []
    with Site(folder) as site:
        for number, step in enumerate(STEPS, start=1):
            print(f"{number:2}/{len(STEPS)} {step.does} …", flush=True)
            started = time.monotonic()
            try:
                saw = step.act(site)
            except (WalkError, OSError) as error:
                print(f"FAILED: {step.does}: {error}\nThe logs are in {site.logs} and {folder}.", file=sys.stderr)
                return done, f"{step.does}: {str(error).splitlines()[0]}."
            done.append(record.Walked(step.does, step.page, saw, round(time.monotonic() - started, 1)))
            print(f"      {saw} ({done[-1].seconds:.0f} s)", flush=True)
    return done, ""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores with {memory:.0f} GiB"


if __name__ == "__main__":
    sys.exit(main())
