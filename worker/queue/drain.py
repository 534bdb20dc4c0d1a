"""The drain: apply the inbox, claim due chunks, decide them, finish their jobs, until nothing is due.

A process may die between any two lines. Before the claim commits, nothing has happened. After it, the lease runs out
and the chunk is claimed again. The decision is one transaction, which also claims what comes next, so that a long job
costs one commit a claim. After it, the relay's sweep repeats the finishing.
A commit whose answer was lost is found done by the token check when the attempt starts again.
"""

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from worker.config import Settings
from worker.database import Database, driver
from worker.errors import ChangedMeanwhileError
from worker.faults import Fault, classify, describe, is_enrolled_meanwhile
from worker.ledger import claimed, claims, jobs
from worker.ledger.decide_at_once import DecidedAtOnce
from worker.queue import counts, recovery
from worker.queue.apply import Applied, apply, apply_at_once, apply_small, claim_and_apply_small
from worker.queue.inbox import InboxDrain
from worker.queue.recovery import IDS_OF_A_LINE, request_ids
from worker.records import Claim
from worker.telemetry import metrics

log = structlog.get_logger(__name__)
clock = time.monotonic

INBOX_EVERY = 0.25
"""Seconds after which a thread that is busy with chunks looks for events again. Until then those that come gather:
a set of a thousand costs a fraction of what as many small ones cost, and the door needs the processor meanwhile."""
OLDEST_EVERY = 8
"""Every eighth claim takes the oldest due chunk, so that nothing waits for ever behind what is more urgent."""
MEANWHILE = 5
"""Times that a claim is decided again at once because of what the platform did meanwhile; then it is an error."""


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
        """Apply the inbox and decide the chunks that are due, or until the process is to stop; the claims decided.

        A set of events and a claim take turns, so that the first withdrawals of a storm do not wait for its end.
        What comes meanwhile is notified, and the relay wakes a worker for it, a few times a second in a storm.
        """
        if self._stopping.is_set():
            return 0
        claim, more_events = self._claim_and_look()
        done, next_look, more = 0, clock() + INBOX_EVERY, more_events
        while claim is not None or (more and not self._stopping.is_set()):
            looks = (more_events or clock() >= next_look) and not self._stopping.is_set()
            if looks:
                began = clock()
                more_events = self._inbox.step()
                next_look = clock() + INBOX_EVERY
                if claim is not None and claim.chunk_ids and clock() - began > self._settings.lease_seconds / 2:
                    claim = self._renew(claim)
            go_on = looks and claim is not None  # what the events ask for was not there when the claim was taken
            if claim is None:  # events that came meanwhile gather: the relay wakes a worker for them
                claim = self._claim()
            more = more_events
            if claim is not None:
                more = more or claim.more
                claim = self._handle(claim, go_on=go_on or claim.more)
                done += 1
        return done

    def warm_up(self) -> None:
        """Look for work once, and do what is found, so that the first request need not wait for a connection.

        Not more often: PostgreSQL keeps a plan from the sixth time on, and one that was made over empty tables is bad.
        """
        try:
            self.run()
        except Exception as error:  # the database is out of reach: a hint comes once it is back
            log.info("worker.not_warmed_up", error_class=describe(error)[0])

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
        work = partial(claims.claim_now, **self._next())
        return self._database.run(work, autocommit=True).claim

    def _claim_and_look(self) -> tuple[Claim | None, bool]:
        """The next claim, and whether events may be due. What is decided with the claim already is none of its chunks.

        The claim has committed before the decision begins, so if that fails the claim is found by its token.
        """
        started, tokens = time.monotonic(), list[UUID]()
        try:
            work = partial(self._claim_and_decide, tokens=tokens)
            claim, events, found = self._database.run(work, autocommit=True)
        except Exception as error:
            claim = self._database.run(lambda connection: claims.find(connection, tokens[-1])) if tokens else None
            if claim is None:
                raise
            counts.failed(time.monotonic() - started)
            self._recover(claim, error)
            return None, True  # it goes on with whatever else is due
        self._note_decided(found, started)
        return (_without(claim, found) if claim is not None and found.decided else claim), events

    def _claim_and_decide(
        self, connection: Connection, *, tokens: list[UUID]
    ) -> tuple[Claim | None, bool, DecidedAtOnce]:
        """Another token for each attempt. What an earlier one has claimed, whose answer was lost, comes first."""
        for token in tokens:
            lost = claims.find(connection, token)
            if lost is not None:
                return lost, True, DecidedAtOnce()
        tokens.append(uuid4())
        with self._within_reach(connection):
            return claim_and_apply_small(connection, tokens[-1], **self._next())

    def _renew(self, claim: Claim) -> Claim | None:
        """Give back a claim that has waited for long, and take one anew.

        If its lease ran out in the middle of the decision, its chunks would count as what may stop a worker.
        """

        def work(connection: Connection) -> Claim | None:
            claimed.give_back(connection, claim.chunk_ids, claim.token)
            return claims.claim(connection, **self._next())

        log.info("claim.renewed", token=str(claim.token), chunks=len(claim.chunk_ids))
        return self._database.run(work)

    def _next(self) -> dict[str, Any]:
        """What the next claim takes."""
        oldest = next(self._claims) % OLDEST_EVERY == 0
        lease = timedelta(seconds=self._settings.lease_seconds)
        return {"budget": self._settings.chunk_size, "lease": lease, "oldest": oldest}

    def _handle(self, claim: Claim, *, go_on: bool = False) -> Claim | None:
        """Decide a claim and finish its jobs. `go_on`: take the next one with it, and return that.

        Nothing that fails after the commit may lose the next one, or it would lie until its lease runs out.
        """
        started = time.monotonic()
        try:
            if claim.names_persons or claim.names_enrolments:
                claim = self._decide_small(claim)
            applied, following = self._decide(claim, go_on=go_on) if claim.chunk_ids else (None, None)
        except Exception as error:
            counts.failed(time.monotonic() - started)
            self._recover(claim, error)
            return None
        if applied is None:
            return self._claim() if go_on and not self._stopping.is_set() else None
        counts.decided(applied, time.monotonic() - started)
        _log_decided(applied)
        # A job of the next claim has not ended: this thread looks again after that claim.
        self._finish(sorted(applied.job_ids - (following.job_ids if following else frozenset())))
        if following is not None and self._stopping.is_set():
            self._give_back(following)
            return None
        if following is None and go_on and not self._stopping.is_set():  # what waits for its time may be due by now
            return self._claim()
        return following

    def _decide_small(self, claim: Claim) -> Claim:
        """Decide the small chunks of a claim that have nothing special in them; the claim with the others."""
        started = time.monotonic()
        found = self._database.run(partial(self._apply_small, claim=claim), autocommit=True)
        self._note_decided(found, started)
        return _without(claim, found)

    def _note_decided(self, found: DecidedAtOnce, started: float) -> None:
        """Count and log what a message has decided, and end those of its jobs that it has not."""
        if found.decided:
            applied = Applied(found.decided, {item.job_id for item in found.decided}, asked=found.asked)
            counts.decided(applied, time.monotonic() - started)
            _log_decided(applied)
            _log_finished(found.finished)
            self._finish(sorted(applied.job_ids.difference(job_id for job_id, _ in found.finished)))

    def _apply_small(self, connection: Connection, *, claim: Claim) -> DecidedAtOnce:
        with self._within_reach(connection):
            return apply_small(connection, claim)

    def _decide(self, claim: Claim, *, go_on: bool) -> tuple[Applied, Claim | None]:
        """Apply a claim; again at once when the platform changed something meanwhile, which the next try sees."""
        if claim.is_plain:
            done = self._decide_at_once(claim, go_on=go_on)
            if done is not None:
                return done
        for _ in range(MEANWHILE):
            try:
                return self._database.run(partial(self._apply, claim=claim, go_on=go_on))
            except IntegrityError as error:
                if not is_enrolled_meanwhile(error):
                    raise
                log.info("claim.enrolled_meanwhile", token=str(claim.token))
        return self._database.run(partial(self._apply, claim=claim, go_on=go_on))

    def _decide_at_once(self, claim: Claim, *, go_on: bool) -> tuple[Applied, Claim | None] | None:
        """Apply a plain claim in one round trip; None: it was not as plain as that, and nothing was done."""
        try:
            return self._database.run(partial(self._apply_at_once, claim=claim, go_on=go_on), autocommit=True)
        except ChangedMeanwhileError:
            log.info("claim.changed_meanwhile", token=str(claim.token))
        except IntegrityError as error:
            if not is_enrolled_meanwhile(error):
                raise
            log.info("claim.enrolled_meanwhile", token=str(claim.token))
        return None

    def _apply_at_once(
        self, connection: Connection, *, claim: Claim, go_on: bool
    ) -> tuple[Applied, Claim | None] | None:
        goes_on = go_on and not self._stopping.is_set()
        following = claims.following(claim.chunk_ids[0], **self._next()) if goes_on else None
        with self._within_reach(connection):
            return apply_at_once(connection, claim, following)

    def _apply(self, connection: Connection, *, claim: Claim, go_on: bool) -> tuple[Applied, Claim | None]:
        with self._within_reach(connection):
            applied = apply(connection, claim)
            if not go_on or self._stopping.is_set():
                return applied, None
            return applied, claims.claim(connection, **self._next())

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
        """End jobs. What this leaves the relay's sweep repeats: the next claim may be in hand already."""
        if not job_ids:
            return
        try:
            finished = self._database.run(lambda connection: jobs.finish(connection, job_ids))
        except Exception as error:
            log.warning("finish.left", error_class=describe(error)[0])
        else:
            _log_finished(finished)

    def _recover(self, claim: Claim, error: Exception) -> None:
        """Give the claim back when stopping interrupted it, else record the failure.

        When not even that can be written, PostgreSQL is out of reach and the lease runs out by itself.
        """
        try:
            if self._stopping.is_set() and classify(error) is Fault.TIMEOUT:
                self._give_back(claim)
            else:
                recovery.record_failure(self._database, self._settings, claim, error)
        except Exception as second:
            log.warning("claim.left", token=str(claim.token), error_class=type(second).__name__)

    def _give_back(self, claim: Claim) -> None:
        self._database.run(lambda connection: claimed.give_back(connection, claim.chunk_ids, claim.token))
        metrics.ATTEMPTS.labels("given_back").inc(len(claim.chunk_ids))
        log.info("claim.given_back", token=str(claim.token), chunks=len(claim.chunk_ids))


def _without(claim: Claim, found: DecidedAtOnce) -> Claim:
    """What of a claim the general way has to decide."""
    left = [one for one in claim.chunk_ids if one not in found.asked]
    return replace(claim, chunk_ids=left, is_plain=False, names_persons=False, names_enrolments=False)


def _log_finished(finished: Iterable[tuple[int, str]]) -> None:
    by_state: defaultdict[str, list[int]] = defaultdict(list)
    for job_id, state in finished:
        by_state[state].append(job_id)
    for state, ids in by_state.items():
        log.info("job." + state, job_ids=ids)


def _log_decided(applied: Applied) -> None:
    """Log what a claim has written."""
    if applied.decided:  # one line a claim: a storm's thousand jobs have no thousand lines
        ids = request_ids(*applied.asked.values())
        log.info(
            "chunk.decided",
            chunk_ids=[item.chunk_id for item in applied.decided],
            job_ids=sorted({item.job_id for item in applied.decided}),
            outcomes=dict(sum((Counter(item.counts) for item in applied.decided), Counter())),
            request_ids=ids[:IDS_OF_A_LINE],
        )
        for start in range(IDS_OF_A_LINE, len(ids), IDS_OF_A_LINE):
            log.info("chunk.requests_decided", request_ids=ids[start : start + IDS_OF_A_LINE])
    for letter_id, state in applied.letters:
        log.info("dead_letter." + state, dead_letter_id=letter_id)
