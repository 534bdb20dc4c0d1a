"""What happens to a claim that was not decided: its chunks are tried again, split, or put in front of a person.

An attempt that failed has said why. What lies in the surroundings (a lost connection, a lock, a timeout) passes, so
it is tried again for hours; an error of a row and an unknown error are tried a few times. A claim that vanished (its
process died, or was cut off for longer than the lease) has said nothing, and may be what stops the process: such claims
have a count of their own. Decision record 0019 has the reasons.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.catalogue import LetterCode
from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.faults import Fault, classify, describe
from worker.ledger import claimed, closing, dead_letters, decide, jobs
from worker.records import Asked, Chunk, Claim
from worker.telemetry import error_reports, metrics

log = structlog.get_logger(__name__)


class NextStep(Enum):
    """What happens next to a chunk that was not decided."""

    RETRY = auto()
    SPLIT = auto()
    GIVE_UP = auto()


SURROUNDINGS = (Fault.TRANSIENT, Fault.TIMEOUT)
"""What passes by itself: it is bounded by time."""
IDS_OF_A_LINE = 50
"""Ids of requests that a line of the log holds at the most."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a chunk has used of its budgets, the attempt that ended now included."""

    attempts: int = 0
    own_failures: int = 0
    """Attempts that failed by an error of a row, or an unknown one."""
    vanished: int = 0
    time: timedelta = timedelta(0)


def next_step(fault: Fault | None, tried: Tried, settings: Settings, *, splittable: bool) -> NextStep:
    """The step after an attempt that failed, or a claim that vanished (`fault` None)."""
    if _is_spent(fault, tried, settings):
        return NextStep.SPLIT if splittable else NextStep.GIVE_UP
    if splittable and (fault is Fault.ROW or (fault is Fault.TIMEOUT and tried.attempts > 1)):
        return NextStep.SPLIT
    return NextStep.RETRY


def _is_spent(fault: Fault | None, tried: Tried, settings: Settings) -> bool:
    if fault is None:
        return tried.vanished >= settings.max_claims
    if fault in SURROUNDINGS:
        return tried.time >= settings.retry_time
    return tried.own_failures >= settings.max_attempts


def backoff(settings: Settings, tries: int) -> timedelta:
    """Full jitter: anywhere between nothing and the exponential bound, so that failures do not return together."""
    doublings = min(tries - 1, 60)  # beyond what a float holds nothing is longer than the longest
    bound = min(settings.backoff_max_seconds, settings.backoff_seconds * 2**doublings)
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311 - spreads load, guards nothing


def record_failure(database: Database, settings: Settings, claim: Claim, error: BaseException) -> None:
    """Record that an attempt failed, and take the next step with each chunk; its transaction was rolled back."""
    fault = classify(error)
    error_class, message, fingerprint = describe(error)
    details = {"error_class": error_class, "message": message, "fingerprint": fingerprint}
    log.warning("attempt.failed", token=str(claim.token), chunks=len(claim.chunk_ids), fault=fault, **details)
    if fault not in SURROUNDINGS:
        error_reports.report(error, "attempt.failed", chunk_ids=claim.chunk_ids[:10])

    def work(connection: Connection) -> list[int]:
        decide.lock_letters(connection, claim.chunk_ids)
        chunks = claimed.lock(connection, claim)
        if not _share_blame(claim, chunks):
            claimed.isolate(connection, claim)
            notify_after_commit(connection)  # they are due at once
            return []
        claimed.record_attempt(connection, [chunk.id for chunk in chunks], result="failed", **details)

        own_failure = fault not in SURROUNDINGS

        def retry(chunk: Chunk) -> None:
            wait = backoff(settings, chunk.attempts + 1)
            claimed.retry(connection, chunk, claim.token, backoff=wait, own_failure=own_failure)

        for chunk in chunks:
            tried = Tried(chunk.attempts + 1, chunk.own_failures + own_failure, time=chunk.tried_for)
            step = next_step(fault, tried, settings, splittable=chunk.is_splittable)
            _carry_out(step, connection, chunk, claim, retry, LetterCode.RETRIES_EXHAUSTED, details)
        return [chunk.job_id for chunk in chunks]

    _and_finish(database, [database.run(work)])
    metrics.ATTEMPTS.labels("failed").inc(len(claim.chunk_ids))


def take_over(database: Database, settings: Settings) -> int:
    """Recover the claims whose lease ran out: their chunks become ready again, or are split or given up.

    Returns the number of such claims.
    """
    with database.begin() as connection:
        lost = claimed.vanished(connection)
    taken = database.run_each(lost, partial(_take_over, settings=settings), step="claim.take_over")
    metrics.ATTEMPTS.labels("vanished").inc(sum(map(len, taken)))
    _and_finish(database, taken)
    return len(lost)


def _take_over(connection: Connection, claim: Claim, *, settings: Settings) -> list[int]:
    decide.lock_letters(connection, claim.chunk_ids)
    chunks = claimed.lock_lost(connection, claim)
    if not chunks:
        return []
    log.warning("claim.vanished", token=str(claim.token), chunks=len(chunks), request_ids=request_ids(*chunks))
    details = {
        "error_class": "Vanished",
        "message": "The worker that had claimed it stopped without recording a result.",
        "fingerprint": "vanished",
    }
    claimed.record_attempt(connection, [chunk.id for chunk in chunks], result="vanished", **details)
    again = [chunk.id for chunk in chunks if chunk.claims < settings.max_claims]
    claimed.retry_vanished(connection, again, claim.token)
    for chunk in chunks:
        if chunk.claims >= settings.max_claims:
            step = next_step(None, Tried(vanished=chunk.claims), settings, splittable=chunk.is_splittable)
            _carry_out(step, connection, chunk, claim, lambda _: None, LetterCode.POISON, details)
    notify_after_commit(connection)
    return [chunk.job_id for chunk in chunks]


def request_ids(*chunks: Asked | Chunk) -> list[str]:
    """The requests that chunks came with, for the log."""
    return sorted({chunk.request_id for chunk in chunks if chunk.request_id is not None})


def _share_blame(claim: Claim, chunks: list[Chunk]) -> bool:
    """Whether an error belongs to these chunks: there is one, or all are attempts at one letter."""
    letters = {chunk.letter_id for chunk in chunks}
    return len(claim.chunk_ids) == 1 or (len(letters) == 1 and None not in letters)


def _carry_out(
    step: NextStep,
    connection: Connection,
    chunk: Chunk,
    claim: Claim,
    retry: Callable[[Chunk], None],
    code: LetterCode,
    details: dict[str, str],
) -> None:
    match step:
        case NextStep.RETRY:
            retry(chunk)
        case NextStep.SPLIT:
            claimed.split(connection, chunk, claim.token)
            notify_after_commit(connection)
        case NextStep.GIVE_UP:
            _give_up(connection, chunk, code, details)
    ids = {"chunk_id": chunk.id, "job_id": chunk.job_id, "request_id": chunk.request_id}
    log.info("chunk." + step.name.lower(), **ids, size=chunk.size)


def _give_up(connection: Connection, chunk: Chunk, code: LetterCode, details: dict[str, str]) -> None:
    if chunk.letter_id is None:
        letter_id = dead_letters.open_for_chunk(connection, chunk.id, code, tried_for=chunk.tried_for, **details)
        dead_letters.fail(connection, chunk, letter_id)
        return
    dead_letters.note_failure(connection, chunk.letter_id, tried_for=chunk.tried_for, **details)
    dead_letters.fail(connection, chunk, chunk.letter_id)
    dead_letters.settle(connection, [chunk.letter_id])


def _and_finish(database: Database, touched: list[list[int]]) -> None:
    job_ids = sorted({job_id for one in touched for job_id in one})
    if not job_ids:
        return

    def work(connection: Connection) -> None:
        closing.close_cancelled(connection, job_ids)  # what came back after the cancel
        jobs.finish(connection, job_ids)

    database.run(work)
