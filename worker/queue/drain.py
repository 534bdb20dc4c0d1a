"""The work itself: claim due chunks, decide them, finish their jobs, until nothing is due.

Die between any two lines and this holds: before the claim commits, nothing happened; after it, the lease
runs out and the chunk is claimed again; the decision is one transaction; after it, finishing is repeated by
the relay. A commit whose answer was lost is found done by the token check when the attempt starts again.
"""

import itertools
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from schemas.catalogue import LetterCode
from worker.config import Settings
from worker.database import Database, driver
from worker.errors import classify, is_enrolled_meanwhile
from worker.ledger import claims, dead_letters, decide, jobs, person_events, reinstate
from worker.queue import recovery
from worker.records import Chunk, Claim, Decided

log = structlog.get_logger(__name__)

OLDEST_EVERY = 8
"""Every eighth claim takes the oldest due chunk, so that nothing waits for ever behind what is more urgent."""
SLIPPED_IN = 5
"""How often a claim is tried again at once when an enrolment slipped in; after that it is an error of a row."""


@dataclass(slots=True)
class Applied:
    """What one transaction did with a claim."""

    decided: list[Decided] = field(default_factory=list)
    job_ids: set[int] = field(default_factory=set)
    letters: list[tuple[int, str]] = field(default_factory=list)


class Withdrawer:
    """The claim loop of one process, shared by its threads."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._turn = itertools.count(1)
        self._in_hand: set[Any] = set()

    def work_off(self) -> int:
        """Decide due chunks until there are none, or the process is to stop; how many claims were decided."""
        done = 0
        while not self._stopping.is_set():
            claim = self._claim()
            if claim is None:
                break
            self._handle(claim)
            done += 1
            if not claim.more:
                break
        return done

    def stop(self) -> None:
        """Claim nothing more; what is in hand is finished."""
        self._stopping.set()

    def interrupt(self) -> None:
        """Cancel the statements in hand: the time to finish is over, their claims are given back."""
        for connection in list(self._in_hand):
            try:
                connection.cancel_safe(timeout=2)
            except psycopg.Error as error:
                log.warning("interrupt.failed", error_class=type(error).__name__)

    def _claim(self) -> Claim | None:
        oldest = next(self._turn) % OLDEST_EVERY == 0
        lease = timedelta(seconds=self._settings.lease_seconds)
        return self._database.run(
            lambda connection: claims.claim(connection, budget=self._settings.chunk_size, lease=lease, oldest=oldest)
        )

    def _handle(self, claim: Claim) -> None:
        try:
            applied = self._decide(claim)
        except Exception as error:
            self._recover(claim, error)
            return
        for item in applied.decided:
            log.info("chunk.decided", chunk_id=item.chunk_id, job_id=item.job_id, outcomes=item.counts)
        for letter_id, state in applied.letters:
            log.info("dead_letter." + state, dead_letter_id=letter_id)
        self._finish(sorted(applied.job_ids))

    def _decide(self, claim: Claim) -> Applied:
        """Apply a claim; again at once when an enrolment slipped in, which the next try finds."""
        for _ in range(SLIPPED_IN):
            try:
                return self._database.run(lambda connection: self._apply(connection, claim))
            except IntegrityError as error:
                if not is_enrolled_meanwhile(error):
                    raise
                log.info("claim.enrolled_meanwhile", token=str(claim.token))
        return self._database.run(lambda connection: self._apply(connection, claim))

    def _finish(self, job_ids: list[int]) -> None:
        if job_ids:
            for job_id, state in self._database.run(lambda connection: jobs.finish(connection, job_ids)):
                log.info("job." + state, job_id=job_id)

    def _recover(self, claim: Claim, error: Exception) -> None:
        """Give the claim back when stopping was the cause, else record the failure.

        When not even that can be written, PostgreSQL is out of reach: the lease runs out by itself.
        """
        try:
            if self._stopping.is_set() and classify(error).name == "TIMEOUT":
                self._database.run(lambda connection: claims.give_back(connection, claim.chunk_ids, claim.token))
                log.info("claim.given_back", token=str(claim.token), chunks=len(claim.chunk_ids))
            else:
                recovery.failed(self._database, self._settings, claim, error)
        except Exception as second:
            log.warning("claim.left", token=str(claim.token), error_class=type(second).__name__)

    def _apply(self, connection: Connection, claim: Claim) -> Applied:
        connection_in_hand = driver(connection)
        self._in_hand.add(connection_in_hand)
        try:
            return apply(connection, claim)
        finally:
            self._in_hand.discard(connection_in_hand)


def apply(connection: Connection, claim: Claim) -> Applied:
    """Decide what of a claim is still its own, in the caller's transaction.

    Lock order: letters, chunks, persons, learners, enrolments. Nothing is decided from a row that is not
    locked, save what never changes (a job's reason, requester and epoch).
    """
    decide.lock_letters(connection, claim.chunk_ids)
    chunks = claims.lock(connection, claim)
    returned = [chunk.id for chunk in chunks if not chunk.proceed]
    if returned:  # paused or cancelled since the claim
        claims.give_back(connection, returned, claim.token)
    chunks = [chunk for chunk in chunks if chunk.proceed]
    applied = Applied(job_ids={chunk.job_id for chunk in chunks})
    if len(chunks) < len(claim.chunk_ids):  # found done, after a commit whose answer was lost: finish their jobs
        applied.job_ids |= claims.done_by(connection, claim)
    if not chunks:
        return applied
    driven = sorted({chunk.redrives for chunk in chunks if chunk.redrives is not None})
    deactivations = [chunk.id for chunk in chunks if chunk.epoch is not None]
    persons = [chunk.id for chunk in chunks if chunk.is_person]
    superseded = person_events.superseded(connection, deactivations) if deactivations else set()
    back = [chunk.id for chunk in chunks if chunk.reinstates is not None]
    theirs = reinstate.lock_learners(connection, back, persons) if back else []
    learners = decide.lock_learners(connection, persons) if persons else {}
    _deactivate(connection, chunks, superseded, learners)
    chunks = [chunk for chunk in chunks if not _closed_whole(connection, chunk, superseded, learners)]
    if chunks:
        ids = [chunk.id for chunk in chunks]
        locked = decide.lock_enrolments(connection, ids, sorted(set(learners.values())))
        if back:  # before the withdrawals: each of them stands by itself, whatever is taken back
            applied.decided += reinstate.decide(connection, back, learners=theirs, locked=locked)
        away = [chunk.id for chunk in chunks if chunk.reinstates is None]
        if away:
            applied.decided += decide.decide(connection, away, superseded=sorted(superseded), locked=locked)
    if driven:
        applied.letters = dead_letters.settle(connection, driven)
    return applied


def _deactivate(connection: Connection, chunks: list[Chunk], superseded: set[int], learners: dict[int, int]) -> None:
    """A deactivation makes its learner inactive also when the learner was created after the event."""
    inactive = [
        learners[chunk.id]
        for chunk in chunks
        if chunk.epoch is not None and chunk.id in learners and chunk.id not in superseded
    ]
    if inactive:
        decide.deactivate_learners(connection, inactive)


def _closed_whole(connection: Connection, chunk: Chunk, superseded: set[int], learners: dict[int, int]) -> bool:
    """Close a person chunk that has nothing to decide: the person came back, or is not known."""
    if not chunk.is_person:
        return False
    if chunk.id in superseded:
        if chunk.redrives is None:
            claims.close_superseded(connection, [chunk.id])
        else:
            dead_letters.supersede_person(connection, chunk)
        return True
    if chunk.id in learners:
        return False
    letter_id = chunk.redrives or dead_letters.open_for_chunk(
        connection,
        chunk.id,
        LetterCode.UNKNOWN_LEARNER,
        message="The platform does not know this learner yet; tried again once it does.",
        fingerprint=LetterCode.UNKNOWN_LEARNER,
    )
    dead_letters.fail(connection, chunk, letter_id)
    return True
