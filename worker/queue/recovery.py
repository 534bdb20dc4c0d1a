"""What becomes of a claim that did not decide: tried again, split, or put in front of a person.

Two counts, two caps. An attempt that failed has said why; a claim that vanished (its process died, or was
cut off for longer than the lease) has said nothing, and may be what kills the process.
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
from worker.errors import Fault, classify, describe, is_transient
from worker.ledger import claims, dead_letters, decide, jobs
from worker.records import Chunk, Claim

log = structlog.get_logger(__name__)


class Step(Enum):
    """What happens next to a chunk that was not decided."""

    RETRY = auto()
    SPLIT = auto()
    GIVE_UP = auto()


def next_step(fault: Fault | None, *, tries: int, most: int, splittable: bool) -> Step:
    """The step after `tries` failed attempts, or vanished claims (`fault` None), this one included."""
    if tries >= most:
        return Step.SPLIT if splittable else Step.GIVE_UP
    if splittable and (fault is Fault.ROW or (fault is Fault.TIMEOUT and tries > 1)):
        return Step.SPLIT
    return Step.RETRY


def backoff(settings: Settings, tries: int) -> timedelta:
    """Full jitter: anywhere between nothing and the exponential bound, so that failures do not return together."""
    bound = min(settings.backoff_max_seconds, settings.backoff_seconds * 2 ** (tries - 1))
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311 - spreads load, guards nothing


def failed(database: Database, settings: Settings, claim: Claim, error: BaseException) -> None:
    """Record that an attempt failed; its transaction has been rolled back."""
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
            splittable = chunk.size > 1 and not chunk.is_person
            step = next_step(fault, tries=chunk.attempts + 1, most=settings.max_attempts, splittable=splittable)
            _take(connection, chunk, claim, step, retry, LetterCode.RETRIES_EXHAUSTED, details)
        return [chunk.job_id for chunk in chunks]

    _and_finish(database, work)


def take_over(database: Database, settings: Settings) -> int:
    """Return the chunks of claims whose lease ran out; how many claims there were."""
    with database.begin() as connection:
        lost = claims.vanished(connection)
    for claim in lost:
        try:
            _and_finish(database, partial(_take_over, settings=settings, claim=claim))
        except Exception as error:  # whatever it is, the other claims get their turn
            if is_transient(error):
                raise
            error_class, message, _ = describe(error)
            log.warning("claim.not_taken_over", token=str(claim.token), error_class=error_class, message=message)
    return len(lost)


def _take_over(connection: Connection, *, settings: Settings, claim: Claim) -> list[int]:
    decide.lock_letters(connection, claim.chunk_ids)
    chunks = claims.lock_lost(connection, claim)
    if not chunks:
        return []
    log.warning("claim.vanished", token=str(claim.token), chunks=len(chunks))
    details = {
        "error_class": "Vanished",
        "message": "The worker that had claimed it was not heard of again.",
        "fingerprint": "vanished",
    }
    claims.record_attempt(connection, [chunk.id for chunk in chunks], result="vanished", **details)
    again = [chunk.id for chunk in chunks if chunk.claims < settings.max_claims]
    claims.retry(connection, again, claim.token, backoff=timedelta(0), failed=False)
    for chunk in chunks:
        if chunk.claims >= settings.max_claims:
            splittable = chunk.size > 1 and not chunk.is_person
            step = Step.SPLIT if splittable else Step.GIVE_UP
            _take(connection, chunk, claim, step, lambda _: None, LetterCode.POISON, details)
    jobs.notify(connection)
    return [chunk.job_id for chunk in chunks]


def _share_blame(claim: Claim, chunks: list[Chunk]) -> bool:
    """Whether an error can be laid on these chunks: there is one, or all are attempts at one letter."""
    letters_of = {chunk.redrives for chunk in chunks}
    return len(claim.chunk_ids) == 1 or (len(letters_of) == 1 and None not in letters_of)


def _take(
    connection: Connection,
    chunk: Chunk,
    claim: Claim,
    step: Step,
    retry: Callable[[Chunk], None],
    code: LetterCode,
    details: dict[str, str],
) -> None:
    match step:
        case Step.RETRY:
            retry(chunk)
        case Step.SPLIT:
            claims.split(connection, chunk, claim.token)
            jobs.notify(connection)
        case Step.GIVE_UP:
            _give_up(connection, chunk, code, details)
    log.info("chunk." + step.name.lower(), chunk_id=chunk.id, job_id=chunk.job_id, size=chunk.size)


def _give_up(connection: Connection, chunk: Chunk, code: LetterCode, details: dict[str, str]) -> None:
    if chunk.redrives is None:
        letter_id = dead_letters.open_for_chunk(connection, chunk.id, code, **details)
        dead_letters.fail(connection, chunk, letter_id)
        return
    dead_letters.note_failure(connection, chunk.redrives, **details)
    dead_letters.fail(connection, chunk, chunk.redrives)
    dead_letters.settle(connection, [chunk.redrives])


def _and_finish(database: Database, work: Callable[[Connection], list[int]]) -> None:
    touched = database.run(work)
    if touched:
        database.run(lambda connection: jobs.finish(connection, touched))
