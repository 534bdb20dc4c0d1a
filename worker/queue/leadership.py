"""Which relay leads, and that it does what a leader does.

The advisory lock of the leader's session is the quick way: it is free as soon as the leader's process is gone. It says
nothing about a leader that hangs, so the leader is on record with a heartbeat of its own, and one that is silent is
replaced. It wakes up, finds another on record, and stands by. For a moment both may act: every step is guarded.

The heartbeat has a thread of its own, so that a slow step does not stop it. It beats only while the thread of the
rounds gets on, so that a step which hangs does not keep a dead leader alive.
"""

import threading
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import event

from worker import session_settings
from worker.config import Settings
from worker.database import Database
from worker.database_urls import direct_parameters
from worker.errors import SessionError
from worker.faults import describe
from worker.ledger import leader

log = structlog.get_logger(__name__)

Session = psycopg.Connection[tuple[object, ...]]

LEADER_LOCK = 7_270_002
_SHORTEST_STALL = 60.0
"""Seconds without progress after which the leader counts as hung; more where a statement may take longer."""


def open_session(settings: Settings) -> AbstractContextManager[Session]:
    """The session that listens and holds the leader's lock, with keepalives in both directions.

    The server's own keepalives end the session of a host that vanished, and free its lock.

    Raises:
        SessionError: it leads through a pooler, where nothing can be listened to and a lock would be somebody else's.
    """
    session = psycopg.connect(
        make_conninfo(**direct_parameters(settings)),
        autocommit=True,
        connect_timeout=5,
        keepalives_idle=5,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=15_000,
        application_name="withdrawals relay",
    )
    try:
        session_settings.require_direct(session_settings.read(session, settings.database_role), "relays")
        session_settings.watch_client(session)
    except (psycopg.Error, SessionError):
        session.close()
        raise
    return session


def _require_writable(session: Session) -> None:
    """Leave a server that takes no writes: nobody sends notifications there, and its lock makes no leader.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: it is a standby, or was made read-only.
    """
    if session.execute("SHOW transaction_read_only").fetchone() == ("on",):
        raise psycopg.errors.ReadOnlySqlTransaction("the server takes no writes")


class StepFailures:
    """Failures in a row of each step, by the thread of the rounds; read by the thread of the heartbeat."""

    def __init__(self) -> None:
        self._failing: dict[str, dict[str, Any]] = {}

    def record(self, step: str, error: BaseException | None) -> None:
        """Count a failure; None: the step succeeded, and its count ends."""
        failing = dict(self._failing)
        before = failing.pop(step, None)
        if error is not None:
            error_class, _, fingerprint = describe(error)
            failing[step] = {
                "failures": before["failures"] + 1 if before else 1,
                "since": before["since"] if before else datetime.now(UTC).isoformat(),
                "error_class": error_class,
                "fingerprint": fingerprint,
            }
        self._failing = failing  # replaced whole: the other thread reads one or the other

    def document(self) -> dict[str, Any]:
        """Step to its failures, as it is recorded."""
        return self._failing


class Leadership:
    """One relay's part in it. `seek` is called by the thread of the rounds, `beat` by that of the heartbeat."""

    def __init__(self, database: Database, process_id: UUID, settings: Settings, failures: StepFailures) -> None:
        self._database = database
        self._id = process_id
        self._failures = failures
        self._stall = max(_SHORTEST_STALL, 2 * settings.lease_seconds) + settings.sweep_seconds
        self._leads = False
        self._locked = False
        self._confirmed = 0.0
        self._progress = 0.0
        self._rounds = 0

    def begin(self) -> None:
        """Call this in the thread of the rounds, before the first: every transaction that it ends is progress."""
        self._rounds = threading.get_ident()
        for ended in ("commit", "rollback"):
            event.listen(self._database.engine, ended, self._note_progress)

    @property
    def leads(self) -> bool:
        """Whether it leads for sure: a process that was stopped for a while has to look first."""
        return self._leads and time.monotonic() - self._confirmed < leader.STALE_AFTER.total_seconds()

    @property
    def progress(self) -> float:
        """When the thread of the rounds last got on, by `time.monotonic`."""
        return self._progress

    def seek(self, session: Session) -> bool:
        """Lead if nobody else does; whether it leads. Whoever leads for sure leaves its record to the heartbeat.

        Raises:
            psycopg.Error, DBAPIError: the database cannot be reached, or takes no writes.
        """
        _require_writable(session)
        self._progress = time.monotonic()
        if self._locked and self.leads:  # it has the lock, and its heartbeat has found it on record
            return True
        if not self._locked:
            row = session.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK]).fetchone()
            self._locked = bool(row and row[0])
        asked = time.monotonic()  # a process may be stopped before it reads the answer
        with self._database.begin() as connection:
            took = leader.take(connection, self._id, locked=self._locked)
        if not took and self._locked:  # whoever leads without the lock may have it
            session.execute("SELECT pg_advisory_unlock(%s)", [LEADER_LOCK])
            self._locked = False
        if took and not self._leads:
            log.info("relay.leads", locked=self._locked)
        if self._leads and not took:
            log.warning("relay.replaced")
        self._leads, self._confirmed, self._progress = took, asked, time.monotonic()
        return took

    def beat(self) -> None:
        """Confirm that it leads, while the thread of the rounds gets on."""
        if not self._leads:
            return
        silent = time.monotonic() - self._progress
        if silent > self._stall:
            log.error("relay.stalled", seconds=round(silent))
            return
        asked = time.monotonic()
        try:
            with self._database.begin(autocommit=True) as connection:
                kept = leader.confirm(connection, self._id, self._failures.document())
        except Exception as error:
            log.warning("relay.heartbeat_failed", error_class=describe(error)[0])
            return
        if kept:
            self._confirmed = asked
        else:
            log.warning("relay.replaced")
            self._leads = False

    def leave_session(self) -> None:
        """The session has ended, and the lock with it."""
        self._leads = self._locked = False

    def resign(self) -> None:
        """Stop leading, so that a standby leads at once; a database out of reach is logged."""
        self._leads = False
        try:
            with self._database.begin() as connection:
                leader.resign(connection, self._id)
        except Exception as error:
            log.warning("relay.not_resigned", error_class=describe(error)[0])

    def _note_progress(self, _: object) -> None:
        if threading.get_ident() == self._rounds:
            self._progress = time.monotonic()
