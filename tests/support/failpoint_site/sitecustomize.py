"""Failpoints of a child process: Python imports this at its start when the directory is on PYTHONPATH."""

import os
import sys
from pathlib import Path

if "FAILPOINT" in os.environ or "FAILPOINT_RECORD" in os.environ:
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.support import failpoints

    failpoints.install_from_environment(os.environ)
