"""Work that takes minutes, beside the rounds of a process: in a thread of its own, one piece at a time."""

import threading
from collections.abc import Callable

GoOn = Callable[[], bool]
"""Asked between two steps: False once the process stops."""

_PATIENCE = 2.0
"""Seconds for which a process that stops waits for the step that runs; whoever goes on repeats what it loses."""


class Background:
    """One kind of such work: begun from a round, which also hears of its failure."""

    def __init__(self, name: str, work: Callable[[GoOn], object]) -> None:
        """`name`: of the thread. `work`: one piece; it ends soon after `GoOn` says so."""
        self._name = name
        self._work = work
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failed: Exception | None = None

    def is_free(self) -> bool:
        """Whether none is being done.

        Raises:
            Exception: the one that has ended the last piece, once; the next round begins a new one.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        return True

    def begin(self) -> None:
        """Do one piece. The caller knows that it `is_free`."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            self._work(lambda: not self._stopping.is_set())
        except Exception as error:  # raised again in a round, which logs and counts it
            self._failed = error
