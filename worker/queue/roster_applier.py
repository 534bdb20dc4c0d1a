"""The relay's part of applying rosters: beside its rounds, because the last step of a large one takes minutes.

No hint and no other organisation waits for it, and the leader's heartbeat says of the rounds what is true.
"""

from worker.background import Background, GoOn
from worker.config import Settings
from worker.database import Database
from worker.ledger import rosters
from worker.people import roster_steps

_WITHIN = 60.0
"""Seconds after which it looks anew which rosters are due."""


class RosterApplier:
    """Applies the accepted rosters of all organisations.

    Two relays may do so at once, when one has lost the lead: each passes over the roster that the other has locked.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._background = Background("rosters", self._apply)

    def step(self) -> None:
        """Begin if a roster is due and none is being applied.

        Raises:
            Exception: the one that has ended the work before; the next round begins anew.
        """
        if not self._background.is_free():
            return
        with self._database.begin() as connection:
            is_due = bool(rosters.list_due(connection))
        if is_due:
            self._background.begin()

    def stop(self) -> None:
        """End after the step that runs."""
        self._background.stop()

    def _apply(self, go_on: GoOn) -> None:
        chunk_size = self._settings.chunk_size
        roster_steps.apply_accepted(self._database, within=_WITHIN, chunk_size=chunk_size, go_on=go_on)
