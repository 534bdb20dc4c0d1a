"""Chunks that a claim has taken: lock, give back, try again, split, and the claims whose worker has vanished."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, update

from worker.ledger.fragments import ASKED_AT, IS_OF_ROSTER, among
from worker.models import chunks
from worker.one_message import Step
from worker.records import Chunk, Claim

_LOCK = f"""
SELECT c.id, c.job_id, c.size, c.attempts, c.own_failures, c.claims,
    c.tried_for + (clock_timestamp() - c.claimed_at) AS tried_for, c.learner_external_id, c.redrives AS letter_id,
    j.epoch, j.reinstates, c.redrives IS NOT NULL OR j.state = 'queued' AS proceed, c.lane, j.request_id,
    {IS_OF_ROSTER} AS is_of_roster,
    clock_timestamp() - CASE WHEN c.redrives IS NOT NULL THEN c.created_at ELSE {ASKED_AT} END AS waited
FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.id = ANY(:ids) AND c.token = :token AND c.state = 'claimed' {{lost}}
ORDER BY c.id FOR UPDATE OF c {{skip}}
"""
_LOCK_HELD = text(_LOCK.format(lost="", skip=""))
_LOCK_LOST = text(_LOCK.format(lost="AND c.lease_until < clock_timestamp()", skip="SKIP LOCKED"))


def lock(connection: Connection, claim: Claim) -> list[Chunk]:
    """Lock those chunks of the claim that are still its own; any missing one was taken over, closed or done."""
    rows = connection.execute(_LOCK_HELD, {"ids": claim.chunk_ids, "token": claim.token})
    return [Chunk(**row) for row in rows.mappings()]


def done_by(connection: Connection, claim: Claim) -> set[int]:
    """The jobs of chunks that this very claim has decided already."""
    done = select(chunks.c.job_id).distinct().where(_of_claim(claim.chunk_ids, claim.token), chunks.c.state == "done")
    return set(connection.scalars(done))


def lock_lost(connection: Connection, claim: Claim) -> list[Chunk]:
    """Lock the chunks of a claim whose lease ran out, except any whose transaction is running."""
    rows = connection.execute(_LOCK_LOST, {"ids": claim.chunk_ids, "token": claim.token})
    return [Chunk(**row) for row in rows.mappings()]


def give_back(connection: Connection, chunk_ids: Sequence[int], token: UUID) -> int:
    """Return chunks undecided and refund the claim: nothing was wrong with them."""
    return _return(connection, chunk_ids, token, claims=chunks.c.claims - 1)


def await_event(connection: Connection, chunk_ids: Sequence[int], token: UUID, *, wait: timedelta) -> int:
    """Return chunks undecided for a while: an event of their person has to be applied first."""
    later = func.now() + wait
    return _return(connection, chunk_ids, token, claims=chunks.c.claims - 1, run_after=later, deferred=True)


def isolate(connection: Connection, claim: Claim) -> int:
    """Return the chunks of a claim that failed together, to be claimed one by one: none of them is to blame yet."""
    return _return(connection, claim.chunk_ids, claim.token, claims=chunks.c.claims - 1, alone=True)


def retry(connection: Connection, chunk: Chunk, token: UUID, *, backoff: timedelta, own_failure: bool) -> None:
    """Let a chunk whose attempt failed be claimed again, alone, after `backoff`.

    `own_failure`: the error was not of the surroundings.
    """
    _return(
        connection,
        [chunk.id],
        token,
        alone=True,
        run_after=func.now() + backoff,
        deferred=backoff > timedelta(0),
        attempts=chunks.c.attempts + 1,
        own_failures=chunks.c.own_failures + int(own_failure),
        claims=chunks.c.claims - 1,
        tried_for=chunk.tried_for + backoff,
    )


def retry_vanished(connection: Connection, chunk_ids: Sequence[int], token: UUID) -> None:
    """Let chunks be claimed again at once, each alone; the claim that vanished stays counted."""
    _return(connection, chunk_ids, token, alone=True, run_after=func.now())


def _return(connection: Connection, chunk_ids: Sequence[int], token: UUID, **values: Any) -> int:
    """Make chunks that are still this claim's own ready again; how many."""
    still_ours = update(chunks).where(_of_claim(chunk_ids, token), chunks.c.state == "claimed")
    return connection.execute(still_ours.values(state="ready", lease_until=None, **values)).rowcount


def _of_claim(chunk_ids: Sequence[int], token: UUID) -> ColumnElement[bool]:
    return and_(among(chunks.c.id, chunk_ids), chunks.c.token == token)


_SPLIT = text("""
WITH parent AS (
    UPDATE withdrawals.chunks SET state = 'split', closed_at = now(), lease_until = NULL
    WHERE id = :id AND token = :token AND state = 'claimed' AND cardinality(enrolment_ids) > 1
    RETURNING *
), halves AS (
    SELECT p.*, half FROM parent p,
    LATERAL (VALUES (p.enrolment_ids[1 : p.size / 2]), (p.enrolment_ids[p.size / 2 + 1:])) AS h(half)
)
INSERT INTO withdrawals.chunks (job_id, organisation_id, number, lane, enrolment_ids, size, state, alone,
    override, override_pathway, redrives, asked_by, parent_id, tried_for, digest)
SELECT job_id, organisation_id, number, lane, half, cardinality(half), 'ready', true,
    override, override_pathway, redrives, asked_by, id, :tried_for,
    (SELECT bit_xor(hashint8extended(i.id, job_id)) FROM unnest(half) i(id)) FROM halves
""")


def split(connection: Connection, chunk: Chunk, token: UUID) -> bool:
    """Replace a chunk of several ids by its halves; False when it has but one or is lost.

    The halves have fresh counts, and go on with the time for which the whole was tried.
    """
    values = {"id": chunk.id, "token": token, "tried_for": chunk.tried_for}
    return connection.execute(_SPLIT, values).rowcount == 2


_RECORD_ATTEMPT = text("""
INSERT INTO withdrawals.attempts (chunk_id, token, result, started_at, error_class, message, fingerprint)
SELECT id, token, :result, claimed_at, :error_class, :message, :fingerprint
FROM withdrawals.chunks WHERE id = ANY(:ids)
""")


def record_attempt(
    connection: Connection,
    chunk_ids: Sequence[int],
    *,
    result: str,
    error_class: str,
    message: str,
    fingerprint: str,
) -> None:
    """Put an attempt that did not decide on record; `result` is `failed` or `vanished`."""
    values = {"ids": list(chunk_ids), "result": result, "error_class": error_class}
    connection.execute(_RECORD_ATTEMPT, {**values, "message": message, "fingerprint": fingerprint})


_VANISHED = text("""
SELECT token, array_agg(id ORDER BY id) AS ids FROM (
    SELECT id, token FROM withdrawals.chunks WHERE state = 'claimed' AND lease_until < clock_timestamp()
    ORDER BY lease_until LIMIT :most) lost
GROUP BY token
""")


ANY_VANISHED = Step(
    "claims_vanished",
    "SELECT (SELECT min(lease_until) FROM withdrawals.chunks WHERE state = 'claimed') < clock_timestamp()",
)
"""Whether `vanished` finds any."""


def vanished(connection: Connection, *, most: int = 5000) -> list[Claim]:
    """Claims whose lease ran out, not locked yet."""
    return [Claim(row.token, list(row.ids)) for row in connection.execute(_VANISHED, {"most": most})]
