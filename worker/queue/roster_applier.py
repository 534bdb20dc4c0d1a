"""The relay's part of applying rosters: beside its rounds, because the last step of a large one takes minutes.

No hint and no other organisation waits for it, and the leader's heartbeat says of the rounds what is true.
"""

import threading

from worker.config import Settings
from worker.database import Database
from worker.ledger import rosters
from worker.people import roster_steps

_WITHIN = 60.0
"""Seconds after which it looks anew which rosters are due."""
_PATIENCE = 2.0
"""Seconds for which a relay that stops waits for the step that runs; whoever leads next repeats what it loses."""


class RosterApplier:
    """Applies the accepted rosters of all organisations in a thread of its own.

    Two relays may do so at once, when one has lost the lead: each passes over the roster that the other has locked.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failed: Exception | None = None

    def step(self) -> None:
        """Begin if a roster is due and none is being applied.

        Raises:
            Exception: the one that has ended the thread before; the next round begins a new one.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        with self._database.begin() as connection:
            is_due = bool(rosters.list_due(connection))
        if is_due:
            self._thread = threading.Thread(target=self._run, name="rosters", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            roster_steps.apply_accepted(
                self._database,
                within=_WITHIN,
                chunk_size=self._settings.chunk_size,
                go_on=lambda: not self._stopping.is_set(),
            )
        except Exception as error:  # raised again in the round, which logs and counts it
            self._failed = error
