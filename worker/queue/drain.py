"""The drain: apply the inbox, claim due chunks, decide them, finish their jobs, until nothing is due.

A process may die between any two lines. Before the claim commits, nothing has happened. After it, the lease runs out
and the chunk is claimed again. The decision is one transaction. After it, the relay's sweep repeats the finishing.
A commit whose answer was lost is found done by the token check when the attempt starts again.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from worker.config import Settings
from worker.database import Database, driver
from worker.errors import Fault, classify, is_enrolled_meanwhile
from worker.ledger import claims, jobs
from worker.queue import counts, recovery
from worker.queue.apply import Applied, apply
from worker.queue.inbox import InboxDrain
from worker.queue.recovery import request_ids
from worker.records import Claim
from worker.telemetry import metrics

log = structlog.get_logger(__name__)

OLDEST_EVERY = 8
"""Every eighth claim takes the oldest due chunk, so that nothing waits for ever behind what is more urgent."""
ENROLLED_MEANWHILE = 5
"""Times that a claim is decided again at once because the platform enrolled somebody meanwhile; then it is an error."""


class Drain:
    """The claim loop of one process, shared by its threads."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._claims = itertools.count(1)
        self._connections: set[Any] = set()
        self._inbox = InboxDrain(database, settings, self._stopping, self._within_reach)

    def run(self) -> int:
        """Apply the inbox and decide due chunks until nothing is due, or the process is to stop; the claims decided.

        A set of events and a claim take turns, so that the first withdrawals of a storm do not wait for its end.
        """
        done = 0
        while not self._stopping.is_set():
            applied = self._inbox.step()
            claim = self._claim()
            if claim is not None:
                self._handle(claim)
                done += 1
            if not applied and (claim is None or not claim.more):
                break
        return done

    def stop(self) -> None:
        """Claim nothing more. Claims in hand are finished."""
        self._stopping.set()

    def interrupt(self) -> None:
        """Cancel the statements in hand: the time to finish is over, and their claims are given back."""
        for connection in list(self._connections):
            try:
                connection.cancel_safe(timeout=2)
            except psycopg.Error as error:
                log.warning("interrupt.failed", error_class=type(error).__name__)

    def _claim(self) -> Claim | None:
        oldest = next(self._claims) % OLDEST_EVERY == 0
        lease = timedelta(seconds=self._settings.lease_seconds)
        return self._database.run(
            lambda connection: claims.claim(connection, budget=self._settings.chunk_size, lease=lease, oldest=oldest)
        )

    def _handle(self, claim: Claim) -> None:
        started = time.monotonic()
        try:
            applied = self._decide(claim)
        except Exception as error:
            counts.failed(time.monotonic() - started)
            self._recover(claim, error)
            return
        counts.decided(applied, time.monotonic() - started)
        for item in applied.decided:
            log.info(
                "chunk.decided",
                chunk_id=item.chunk_id,
                job_id=item.job_id,
                outcomes=item.counts,
                request_ids=request_ids(applied.chunks[item.chunk_id]),
            )
        for letter_id, state in applied.letters:
            log.info("dead_letter." + state, dead_letter_id=letter_id)
        self._finish(sorted(applied.job_ids))

    def _decide(self, claim: Claim) -> Applied:
        """Apply a claim; again at once when the platform enrolled somebody meanwhile, whom the next try sees."""
        for _ in range(ENROLLED_MEANWHILE):
            try:
                return self._database.run(lambda connection: self._apply(connection, claim))
            except IntegrityError as error:
                if not is_enrolled_meanwhile(error):
                    raise
                log.info("claim.enrolled_meanwhile", token=str(claim.token))
        return self._database.run(lambda connection: self._apply(connection, claim))

    def _apply(self, connection: Connection, claim: Claim) -> Applied:
        with self._within_reach(connection):
            return apply(connection, claim)

    @contextmanager
    def _within_reach(self, connection: Connection) -> Iterator[None]:
        """Keep a connection within reach of `interrupt`."""
        in_hand = driver(connection)
        self._connections.add(in_hand)
        try:
            yield
        finally:
            self._connections.discard(in_hand)

    def _finish(self, job_ids: list[int]) -> None:
        if job_ids:
            for job_id, state in self._database.run(lambda connection: jobs.finish(connection, job_ids)):
                log.info("job." + state, job_id=job_id)

    def _recover(self, claim: Claim, error: Exception) -> None:
        """Give the claim back when stopping interrupted it, else record the failure.

        When not even that can be written, PostgreSQL is out of reach and the lease runs out by itself.
        """
        try:
            if self._stopping.is_set() and classify(error) is Fault.TIMEOUT:
                self._database.run(lambda connection: claims.give_back(connection, claim.chunk_ids, claim.token))
                metrics.ATTEMPTS.labels("given_back").inc(len(claim.chunk_ids))
                log.info("claim.given_back", token=str(claim.token), chunks=len(claim.chunk_ids))
            else:
                recovery.record_failure(self._database, self._settings, claim, error)
        except Exception as second:
            log.warning("claim.left", token=str(claim.token), error_class=type(second).__name__)
