"""Reads that may be a moment old, from a standby where there is one: exports and summaries.

Nothing is decided from what is read here, and no page shows it right after an act. How old it can be is measured
before each read. A standby that does not answer, or is too far behind, is left for the primary.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from worker.config import Settings
from worker.database import Database
from worker.errors import SessionError
from worker.faults import describe, is_transient
from worker.ledger import replication

log = structlog.get_logger(__name__)
T = TypeVar("T")

PAUSE = 5.0
"""Seconds for which a standby that did not answer is not asked again, so that not every report waits for it."""
_RETRY_SECONDS = 3.0


class NotAStandbyError(Exception):
    """The server takes writes itself, which say nothing about the primary's."""


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What was read, and from where."""

    found: T
    lag: float | None
    """Seconds that it may be behind, at most; None: it was read from the primary."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The standby at this moment."""

    lag: float | None
    """Seconds that it may be behind, at most; None: that is not known."""
    reason: str = ""
    """Why it is not read: `behind`, or the class of an error; empty: it is read."""


class ReportReader:
    """Reads from the standby while it is near enough, else from the primary. Safe for several threads."""

    def __init__(self, primary: Database, replica: Database | None = None, *, most_seconds: float = 0) -> None:
        """`most_seconds`: how far the standby may be behind."""
        self._primary, self._replica, self._most = primary, replica, most_seconds
        self._paused_until = 0.0
        self._reason = ""
        """Why the standby is not read; empty: it is."""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, settings: Settings, primary: Database, *, pool_size: int) -> "ReportReader":
        """With connections of its own to `DATABASE_REPLICA_URL`, if that is set."""
        if not settings.database_replica_url.get_secret_value():
            return cls(primary)
        replica = Database(settings, pool_size=pool_size, replica=True, retry_seconds=_RETRY_SECONDS)
        replica.show_use("replica")
        return cls(primary, replica, most_seconds=settings.replica_lag_seconds)

    def read(self, work: Callable[[Database], T]) -> Read[T]:
        """Run `work` on the standby, or on the primary. It runs again from its beginning if the standby fails.

        Raises:
            Exception: what `work` raises, unless the standby is the cause; the primary does not answer.
        """
        state = self.state()
        if self._replica is not None and state is not None and not state.reason:
            try:
                return Read(work(self._replica), state.lag)
            except Exception as error:
                if not is_transient(error):  # one such is a conflict: the primary removed what was being read
                    raise
                self._leave(error)
        return Read(work(self._primary), None)

    def state(self) -> ReplicaState | None:
        """How the standby is now; None: there is none.

        Raises:
            DBAPIError: the primary does not answer.
        """
        if self._replica is None:
            return None
        if time.monotonic() < self._paused_until:
            return ReplicaState(None, self._reason)
        begun = time.monotonic()
        with self._primary.begin() as connection:
            written = replication.written(connection)
        try:
            behind = seconds_behind(self._replica, written)
        except Exception as error:
            if not (is_transient(error) or isinstance(error, NotAStandbyError | SessionError)):
                raise
            return ReplicaState(None, self._leave(error))
        lag = None if behind is None else behind + time.monotonic() - begun
        near = lag is not None and lag <= self._most
        return ReplicaState(lag, self._note("" if near else "behind", lag))

    def close(self) -> None:
        """Close the connections to the standby."""
        if self._replica is not None:
            self._replica.close()

    def _leave(self, error: Exception) -> str:
        self._paused_until = time.monotonic() + PAUSE
        return self._note(describe(error)[0], None)

    def _note(self, reason: str, lag: float | None) -> str:
        """Log when the standby is left, and when it is read again."""
        with self._lock:
            before, self._reason = self._reason, reason
        if reason and reason != before:
            log.warning("replica.left", reason=reason, lag_seconds=None if lag is None else round(lag, 1))
        if before and not reason:
            log.info("replica.used_again")
        return reason


def seconds_behind(replica: Database, written: replication.Written) -> float | None:
    """Seconds that the standby was behind what the primary had written; None: not known.

    Raises:
        NotAStandbyError: it is none.
        DBAPIError: it does not answer.
    """
    with replica.begin() as connection:
        if not replication.is_standby(connection):
            raise NotAStandbyError
        return replication.seconds_behind(connection, written)
