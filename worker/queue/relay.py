"""The relay, the only publisher: it turns what PostgreSQL says is due into hints in Redis.

It reacts to NOTIFY at once and looks around slowly in any case, so a lost notification or a flushed Redis
delays work by no more than one round. Any number may run: one leads (a session's advisory lock, freed by the
server when that session ends), the others stand by.
"""

import threading
import time
from collections.abc import Callable

import psycopg
import redis
import sqlalchemy.exc
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection

from worker.access import sessions
from worker.config import Settings
from worker.database import CHANNEL, Database, parse_url
from worker.dead_letters import desk_acts, remedies, runs
from worker.errors import describe, is_passing, is_read_only
from worker.jobs.admission import admit
from worker.ledger import claims, jobs, processes, webhook_deliveries
from worker.people import events
from worker.queue import recovery
from worker.queue.broker import WEBHOOKS_ACTOR, WEBHOOKS_QUEUE, HintBroker
from worker.queue.heartbeat import Heartbeat

log = structlog.get_logger(__name__)

_LEADER_LOCK = 7_270_002
_SHORTEST, _LONGEST = 0.01, 0.1
"""Seconds between two rounds of publishing: the first notification after a lull acts at once; while they keep
coming the pause doubles, so that a storm of single requests is decided in sets."""

_OVERDUE_EVERY = 60.0
"""Seconds between two looks for dead letters that have become overdue."""


class Relay:
    """One relay process: publisher, scheduler and sweeper."""

    def __init__(self, database: Database, broker: HintBroker, settings: Settings) -> None:
        self._database = database
        self._broker = broker
        self._settings = settings
        self._stopping = threading.Event()
        self._heartbeat = Heartbeat(database, "relay")
        self._next_overdue = 0.0
        self._broker_failed = False
        """Whether Redis failed since the last round began: until the next one nothing waits for it again."""

    def stop(self) -> None:
        """End after the current round."""
        self._stopping.set()

    def run(self) -> None:
        """Publish and sweep until stopped; a lost connection is made again."""
        log.info("relay.started")
        while not self._stopping.is_set():
            try:
                self._serve()
            except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
                if not is_passing(error):
                    raise
                log.warning("relay.database_unreachable", error_class=describe(error)[0])
                self._stopping.wait(0.5)
        self._heartbeat.stop()
        log.info("relay.stopped")

    def _serve(self) -> None:
        with psycopg.connect(
            make_conninfo(**parse_url(self._settings.database_url.get_secret_value())),
            autocommit=True,
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=5,
            keepalives_count=3,
            application_name="withdrawals relay",
        ) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            leads, next_round, pause = False, 0.0, _SHORTEST
            while not self._stopping.is_set():
                if time.monotonic() >= next_round:
                    _require_writable(connection)
                leads = leads or self._lead(connection)
                if time.monotonic() >= next_round:
                    self.sweep() if leads else self._try("heartbeat", self._heartbeat.beat)
                    next_round = time.monotonic() + self._settings.sweep_seconds
                if leads:
                    self._try("publish", self.publish)
                self._stopping.wait(pause)
                if list(connection.notifies(timeout=0)):
                    pause = min(pause * 2, _LONGEST)
                else:
                    pause = _SHORTEST
                    self._wait(connection, next_round)

    def _lead(self, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LEADER_LOCK]).fetchone()
        if row is not None and row[0]:
            log.info("relay.leads")
            return True
        return False

    def _wait(self, connection: psycopg.Connection[tuple[object, ...]], until: float) -> None:
        """Until a notification comes or the next round is due."""
        patience = max(until - time.monotonic(), 0.001)
        list(connection.notifies(timeout=patience, stop_after=1))

    def publish(self) -> int:
        """Top the hints up to the smaller of due chunks and worker threads; how many were added.

        After Redis has failed nothing is published until the next round: a Redis that hangs would hold up every step.
        """
        if self._broker_failed:
            return 0
        with self._database.begin() as connection:
            threads = processes.worker_threads(connection)
            due = claims.count_due(connection, most=threads)
            webhooks_due = webhook_deliveries.any_due(connection)
        try:
            if webhooks_due:
                self._broker.top_up(1, queue=WEBHOOKS_QUEUE, actor=WEBHOOKS_ACTOR)
            return self._broker.top_up(due) if due else 0
        except redis.RedisError:
            self._broker_failed = True
            raise

    def sweep(self) -> None:
        """One slow round: everything that a crash, a lost message or the passing of time may have left."""
        self._broker_failed = False
        steps: dict[str, Callable[[], object]] = {
            "heartbeat": self._heartbeat.beat,
            "take_over": lambda: recovery.take_over(self._database, self._settings),
            "deactivate": lambda: events.deactivate_due(self._database),
            "admit": self._admit_due,
            "close": self._close_cancelled,
            "learners": lambda: remedies.redrive_known_learners(self._database),
            "daily": lambda: runs.redrive_changed(self._database),
            "runs": lambda: runs.step_all(self._database),
            "finish": self._finish,
            "forget": self._forget_deliveries,
            "sessions": lambda: sessions.delete_expired(self._database),
            "strip": lambda: desk_acts.drop_evidence(self._database, self._settings),
            "overdue": self._tell_overdue,
        }
        for name, step in steps.items():
            self._try(name, step)
            self._try("publish", self.publish)  # a long step keeps nobody waiting

    def _admit_due(self) -> None:
        with self._database.begin() as connection:
            due = jobs.due(connection)
        self._database.run_each(due, self._admit, step="job.admit")

    def _admit(self, connection: Connection, job: tuple[int, int]) -> None:
        job_id, organisation_id = job
        admission = admit(connection, organisation_id=organisation_id, job_id=job_id, current=self._settings)
        if admission.admitted:
            log.info("job.admitted", job_id=job_id, organisation_id=organisation_id)
        if admission.held:
            log.warning("job.held", job_id=job_id, organisation_id=organisation_id)

    def _close_cancelled(self) -> None:
        with self._database.begin() as connection:
            claims.close_cancelled(connection)

    def _finish(self) -> None:
        with self._database.begin() as connection:
            for job_id, state in jobs.finish(connection, None):
                log.info("job." + state, job_id=job_id)

    def _forget_deliveries(self) -> None:
        with self._database.begin() as connection:
            webhook_deliveries.delete_old(connection)

    def _tell_overdue(self) -> None:
        """Once a minute: it looks through what is overdue already, and hours are the unit of it."""
        if time.monotonic() >= self._next_overdue:
            desk_acts.announce_overdue(self._database, self._settings)
            self._next_overdue = time.monotonic() + _OVERDUE_EVERY

    def _try(self, step: str, act: Callable[[], object]) -> None:
        """One step's failure does not keep the others from their turn; a lost connection is logged once a round."""
        try:
            act()
        except Exception as error:
            name, message, fingerprint = describe(error)
            log.warning("relay.step_failed", step=step, error_class=name, message=message, fingerprint=fingerprint)
            if is_read_only(error):  # then no step succeeds here: look for the server that takes writes
                raise


def _require_writable(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Leave a server that takes no writes: nobody sends notifications there, and its lock makes no leader.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: it is a standby, or was made read-only.
    """
    if connection.execute("SHOW transaction_read_only").fetchone() == ("on",):
        raise psycopg.errors.ReadOnlySqlTransaction("the server takes no writes")
