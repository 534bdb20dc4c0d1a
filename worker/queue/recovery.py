"""What happens to a claim that was not decided: its chunks are tried again, split, or put in front of a person.

There are two counts, each with a limit. An attempt that failed has said why. A claim that vanished (its process died,
or was cut off for longer than the lease) has said nothing, and may be what stops the process.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from enum import Enum, auto
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.catalogue import LetterCode
from worker.config import Settings
from worker.database import Database
from worker.errors import Fault, classify, describe
from worker.ledger import claims, dead_letters, decide, jobs
from worker.records import Chunk, Claim

log = structlog.get_logger(__name__)


class NextStep(Enum):
    """What happens next to a chunk that was not decided."""

    RETRY = auto()
    SPLIT = auto()
    GIVE_UP = auto()


def next_step(fault: Fault | None, *, tries: int, most: int, splittable: bool) -> NextStep:
    """The step after `tries` failed attempts, or vanished claims (`fault` None), this one included."""
    if tries >= most:
        return NextStep.SPLIT if splittable else NextStep.GIVE_UP
    if splittable and (fault is Fault.ROW or (fault is Fault.TIMEOUT and tries > 1)):
        return NextStep.SPLIT
    return NextStep.RETRY


def backoff(settings: Settings, tries: int) -> timedelta:
    """Full jitter: anywhere between nothing and the exponential bound, so that failures do not return together."""
    bound = min(settings.backoff_max_seconds, settings.backoff_seconds * 2 ** (tries - 1))
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311 - spreads load, guards nothing


def record_failure(database: Database, settings: Settings, claim: Claim, error: BaseException) -> None:
    """Record that an attempt failed, and take the next step with each chunk; its transaction was rolled back."""
    fault = classify(error)
    error_class, message, fingerprint = describe(error)
    details = {"error_class": error_class, "message": message, "fingerprint": fingerprint}
    log.warning("attempt.failed", token=str(claim.token), chunks=len(claim.chunk_ids), fault=fault, **details)

    def work(connection: Connection) -> list[int]:
        decide.lock_letters(connection, claim.chunk_ids)
        chunks = claims.lock(connection, claim)
        if not _share_blame(claim, chunks):
            claims.isolate(connection, claim)
            jobs.notify(connection)  # they are due at once
            return []
        claims.record_attempt(connection, [chunk.id for chunk in chunks], result="failed", **details)

        def retry(chunk: Chunk) -> None:
            wait = backoff(settings, chunk.attempts + 1)
            claims.retry(connection, [chunk.id], claim.token, backoff=wait, failed=True)

        for chunk in chunks:
            step = next_step(
                fault, tries=chunk.attempts + 1, most=settings.max_attempts, splittable=chunk.is_splittable
            )
            _carry_out(step, connection, chunk, claim, retry, LetterCode.RETRIES_EXHAUSTED, details)
        return [chunk.job_id for chunk in chunks]

    _and_finish(database, [database.run(work)])


def take_over(database: Database, settings: Settings) -> int:
    """Recover the claims whose lease ran out: their chunks become ready again, or are split or given up.

    Returns the number of such claims.
    """
    with database.begin() as connection:
        lost = claims.vanished(connection)
    _and_finish(database, database.run_each(lost, partial(_take_over, settings=settings), step="claim.take_over"))
    return len(lost)


def _take_over(connection: Connection, claim: Claim, *, settings: Settings) -> list[int]:
    decide.lock_letters(connection, claim.chunk_ids)
    chunks = claims.lock_lost(connection, claim)
    if not chunks:
        return []
    log.warning("claim.vanished", token=str(claim.token), chunks=len(chunks))
    details = {
        "error_class": "Vanished",
        "message": "The worker that had claimed it stopped without recording a result.",
        "fingerprint": "vanished",
    }
    claims.record_attempt(connection, [chunk.id for chunk in chunks], result="vanished", **details)
    again = [chunk.id for chunk in chunks if chunk.claims < settings.max_claims]
    claims.retry(connection, again, claim.token, backoff=timedelta(0), failed=False)
    for chunk in chunks:
        if chunk.claims >= settings.max_claims:
            step = next_step(None, tries=chunk.claims, most=settings.max_claims, splittable=chunk.is_splittable)
            _carry_out(step, connection, chunk, claim, lambda _: None, LetterCode.POISON, details)
    jobs.notify(connection)
    return [chunk.job_id for chunk in chunks]


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
            claims.split(connection, chunk, claim.token)
            jobs.notify(connection)
        case NextStep.GIVE_UP:
            _give_up(connection, chunk, code, details)
    log.info("chunk." + step.name.lower(), chunk_id=chunk.id, job_id=chunk.job_id, size=chunk.size)


def _give_up(connection: Connection, chunk: Chunk, code: LetterCode, details: dict[str, str]) -> None:
    if chunk.letter_id is None:
        letter_id = dead_letters.open_for_chunk(connection, chunk.id, code, **details)
        dead_letters.fail(connection, chunk, letter_id)
        return
    dead_letters.note_failure(connection, chunk.letter_id, **details)
    dead_letters.fail(connection, chunk, chunk.letter_id)
    dead_letters.settle(connection, [chunk.letter_id])


def _and_finish(database: Database, touched: list[list[int]]) -> None:
    job_ids = sorted({job_id for one in touched for job_id in one})
    if not job_ids:
        return

    def work(connection: Connection) -> None:
        claims.close_cancelled(connection, job_ids)  # what came back after the cancel
        jobs.finish(connection, job_ids)

    database.run(work)
