"""The relay, the only publisher: it turns what PostgreSQL says is due into hints in the broker.

It reacts to NOTIFY at once and looks around slowly in any case, so a lost notification or a lost broker
delays work by no more than one round. Any number may run: one leads (`leadership.py`), the others stand by.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import psycopg
import sqlalchemy.exc
import structlog

from worker.config import Settings
from worker.database import CHANNEL, Database
from worker.faults import describe, is_passing, is_read_only
from worker.ledger import due_work
from worker.ledger.due_work import DueWork
from worker.queue.heartbeat import EVERY, Heartbeat
from worker.queue.hints import (
    ACTOR,
    NOTIFICATIONS_ACTOR,
    NOTIFICATIONS_QUEUE,
    QUEUE,
    WEBHOOKS_ACTOR,
    WEBHOOKS_QUEUE,
    Hints,
)
from worker.queue.leadership import Leadership, Session, StepFailures, open_session
from worker.queue.round_steps import RoundSteps
from worker.telemetry import error_reports, metrics
from worker.telemetry.health import HUNG_AFTER, LATE_AFTER, Report

log = structlog.get_logger(__name__)

_SHORTEST, _LONGEST = 0.01, 0.3
"""Seconds between two rounds of publishing: the first notification after a lull acts at once; while they keep
coming the pause doubles, so that a storm of events or single requests is worked off in large sets."""

_COUNT_AFTER = 0.03
"""Seconds from the first hint after a lull to the count of what is due: a request that came alone is served by then."""

T = TypeVar("T")


class Relay:
    """One relay process: publisher, scheduler and sweeper."""

    def __init__(self, database: Database, broker: Hints, settings: Settings) -> None:
        self._database = database
        self._broker = broker
        self._settings = settings
        self._stopping = threading.Event()
        self._heartbeat = Heartbeat(database, "relay")
        self._failures = StepFailures()
        self._leadership = Leadership(database, self._heartbeat.process_id, settings, self._failures)
        self.steps = RoundSteps(database, settings)
        self._published_at = 0.0
        self._woke_in_round = False
        self._broker_failed = False
        """Whether the broker failed since the last round began: until the next one nothing waits for it again."""
        self._turned = time.monotonic()
        """When the thread of the rounds last gave a sign of life."""

    def stop(self) -> None:
        """End after the current round."""
        self._stopping.set()

    def alive(self) -> Report:
        """Whether its rounds go on, wherever the database is. For another thread."""
        silent = time.monotonic() - max(self._turned, self._leadership.progress)
        return Report(silent < HUNG_AFTER, {"silent_seconds": round(silent, 1)})

    def ready(self) -> Report:
        """Whether it works or stands by: the database takes its heartbeats, the broker hints. For another thread."""
        database = self._heartbeat.is_recorded(LATE_AFTER)
        parts = {
            "database": {"ok": database},
            "broker": {"ok": not self._broker_failed},
            "relay": {"ok": True, "leads": self._leadership.leads},
        }
        return Report(database and not self._broker_failed, parts)

    def run(self) -> None:
        """Publish and sweep until stopped; a lost connection is made again."""
        log.info("relay.started")
        self._leadership.begin()
        self._heartbeat.start(after_each=self._leadership.beat)
        metrics.sample_with(self, lambda: metrics.LEADS.labels("relay").set(self._leadership.leads))
        try:
            while not self._stopping.is_set():
                self._turned = time.monotonic()
                self._serve_until_lost()
        finally:
            self.steps.stop()
            self._leadership.resign()
            self._heartbeat.stop()
            metrics.forget(self)
        log.info("relay.stopped")

    def _serve_until_lost(self) -> None:
        try:
            self._serve()
        except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
            if not is_passing(error):
                raise
            log.warning("relay.database_unreachable", error_class=describe(error)[0])
            self._stopping.wait(0.5)
        finally:
            self._leadership.leave_session()

    def _serve(self) -> None:
        with open_session(self._settings) as session:
            session.execute(f"LISTEN {CHANNEL}")
            next_round, pause = 0.0, _SHORTEST
            while not self._stopping.is_set():
                self._turned = time.monotonic()
                if time.monotonic() >= next_round:
                    next_round = self._round(session)
                elif self._leadership.leads:
                    self._publish()
                self._stopping.wait(pause)
                if list(session.notifies(timeout=0)):
                    pause = min(pause * 2, _LONGEST)
                else:
                    pause = _SHORTEST
                    if self._wait(session, next_round) and self._leadership.leads:
                        self._wake_one()
                        self._stopping.wait(_COUNT_AFTER)

    def _round(self, session: Session) -> float:
        """Look who leads, and sweep if it is this relay; when the next round is due."""
        leads = self._leadership.seek(session)
        if leads:
            self._woke_in_round = False
            between = partial(self._wake_in_round, session)
            self.sweep(go_on=lambda: self._leadership.leads, between=between, ask=not self.steps.take_all())
        patience = self._settings.sweep_seconds
        return time.monotonic() + (patience if leads else min(patience, EVERY))

    def _wait(self, session: Session, until: float) -> bool:
        """Until a notification comes or the next round is due; whether one came."""
        patience = max(until - time.monotonic(), 0.001)
        return bool(list(session.notifies(timeout=patience, stop_after=1)))

    def _wake_one(self) -> None:
        """One hint, before anything is counted: after a lull a notification means that something is due.

        It carries nothing, so one that was in vain costs a worker a look.
        """
        if not self._broker_failed:
            self._try("publish", lambda: self._top_up(1))

    def _wake_in_round(self, session: Session) -> None:
        """Between two steps, wake a worker for what was notified. Once a round: at its end what is due is counted."""
        if not self._woke_in_round and self._leadership.leads and list(session.notifies(timeout=0)):
            self._woke_in_round = True
            self._wake_one()

    def _publish(self) -> None:
        """Publish, unless the broker has failed in this round: one that hangs would hold up every step."""
        self._published_at = time.monotonic()
        if not self._broker_failed:
            self._try("publish", self.publish)

    def publish(self) -> int:
        """Top the hints up to the smaller of due work and worker threads; how many were added.

        Due are claims of chunks, and the inboxes of organisations: each of these keeps one worker busy.
        """
        with self._database.begin(autocommit=True) as connection:
            due, _ = due_work.find(connection, budget=self._settings.chunk_size)
        return self._hint_at(due)

    def _hint_at(self, due: DueWork) -> int:
        if due.requests:
            self._top_up(1, queue=WEBHOOKS_QUEUE, actor=WEBHOOKS_ACTOR)
        if due.messages:
            self._top_up(1, queue=NOTIFICATIONS_QUEUE, actor=NOTIFICATIONS_ACTOR)
        return self._top_up(due.drains) if due.drains else 0

    def _top_up(self, wanted: int, *, queue: str = QUEUE, actor: str = ACTOR) -> int:
        try:
            added = self._broker.top_up(wanted, queue=queue, actor=actor)
        except self._broker.errors:
            self._broker_failed = True
            raise
        metrics.HINTS.labels(queue).inc(added)
        return added

    def sweep(
        self,
        *,
        go_on: Callable[[], bool] = lambda: True,
        between: Callable[[], None] = lambda: None,
        ask: bool = False,
    ) -> None:
        """One slow round: everything that a crash, a lost message or the passing of time may have left; then publish.

        `go_on`: asked before each step. A relay that was stopped for a while may not lead any more.
        `between`: called after each step.
        `ask`: take only those steps that have something to do.
        """
        self._broker_failed = False
        names = self._ask() if ask else list(self.steps.steps)
        for name in names:
            if not go_on():
                return
            self._try(name, self.steps.steps[name].take)
            between()
            if time.monotonic() - self._published_at > _LONGEST:  # a long step keeps nobody waiting
                self._publish()
        if names and go_on():
            self._publish()

    def _ask(self) -> list[str]:
        """The steps that have something to do, and hints at what is due, after one look; all steps if it fails."""

        def look() -> tuple[DueWork, list[str]]:
            with self._database.begin(autocommit=True) as connection:
                return self.steps.look(connection, failing=self._failures.document())

        found = self._try("ask", look)
        if found is None:
            return list(self.steps.steps)
        due, names = found
        self._published_at = time.monotonic()
        self._try("publish", lambda: self._hint_at(due))
        return names

    def _try(self, step: str, act: Callable[[], T]) -> T | None:
        """One step's failure does not keep the others from their turn. It is logged, and counted for all to see."""
        failed = metrics.STEPS.labels(step, "failed")  # shown from the first round on: a rate needs a first value
        try:
            result = act()
        except Exception as error:
            name, message, fingerprint = describe(error)
            log.warning("relay.step_failed", step=step, error_class=name, message=message, fingerprint=fingerprint)
            failed.inc()
            if not is_passing(error):
                error_reports.report(error, "relay.step_failed", step=step)
            self._failures.record(step, error)
            if is_read_only(error):  # then no step succeeds here: look for the server that takes writes
                raise
            return None
        metrics.STEPS.labels(step, "done").inc()
        self._failures.record(step, None)
        return result
