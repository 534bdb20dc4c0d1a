"""`python -m ops.local.supervised PROGRAM …`: runs a program that ends with its parent, even when that is killed.

On Linux the kernel sends SIGTERM when the parent dies (`prctl(PR_SET_PDEATHSIG)`, kept across exec), so that
a killed supervisor leaves no worker behind and no port taken. Elsewhere it just runs the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the supervisor's own commands
