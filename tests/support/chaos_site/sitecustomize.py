"""Faults inside of a child process: Python imports this at its start when the directory is on PYTHONPATH.

`CHAOS_CLOCK`: seconds by which the process's clock is ahead. `CHAOS_KILLS`: a directory; see `tests.support.kills`.
"""

import os
import sys
from pathlib import Path

if "CHAOS_CLOCK" in os.environ or "CHAOS_KILLS" in os.environ:
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.support import clocks

    if "CHAOS_CLOCK" in os.environ:
        clocks.shift(float(os.environ["CHAOS_CLOCK"]))
    if "CHAOS_KILLS" in os.environ:
        from tests.support import kills

        kills.install(Path(os.environ["CHAOS_KILLS"]))
