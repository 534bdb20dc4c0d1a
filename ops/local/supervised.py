"""`python -m ops.local.supervised PROGRAM …`: run a program that ends when its parent process ends.

On Linux the kernel sends SIGTERM when the parent ends, even by SIGKILL (`prctl(PR_SET_PDEATHSIG)`, which stays in
force across exec), so that a killed supervisor leaves no worker running and no port in use. On other systems this
module only runs the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - runs the supervisor's own commands
