"""How much memory a process ever had resident; needs /proc."""

from contextlib import suppress
from pathlib import Path


def peak(pid: int) -> float:
    """The most that one process of a family ever had, in MB: the program, or a child of the wrapper that runs it."""
    most, family = 0.0, [str(pid)]
    for one in family:
        with suppress(OSError):
            family += Path(f"/proc/{one}/task/{one}/children").read_text(encoding="utf-8").split()
            for line in Path(f"/proc/{one}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("VmHWM:"):
                    most = max(most, int(line.split()[1]) / 1024)
    return most
