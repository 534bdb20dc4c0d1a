"""Chunks on their way to a decision: claim, lock, give back, retry, split, close."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from worker.records import Chunk, Claim

# Of the attempts at one letter only the first is due, and the others go with it: two claims cannot share them.
_DUE = """
    c.state = 'ready' AND c.run_after <= now()
    AND ((c.redrives IS NULL AND EXISTS (
            SELECT 1 FROM withdrawals.jobs j WHERE j.id = c.job_id AND j.state = 'queued'))
        OR (c.redrives IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM withdrawals.chunks b
            WHERE b.redrives = c.redrives AND b.id < c.id AND b.state IN ('ready', 'claimed'))))
"""

# Fair: by lane, then by the chunk's number in its job, so that jobs take turns. The first due chunk is
# filled up with further small ones, so that a storm of single requests is decided in sets; a chunk marked
# `alone` is not. What fits is found without a lock, then locked: another claim is not kept from the rest.
# A person counts as ten ids. All attempts at one letter go together.
_CLAIM = """
WITH first AS (
    SELECT c.id, {weight} AS weight, c.alone, c.redrives FROM withdrawals.chunks c
    WHERE {due} ORDER BY {order} LIMIT 1 FOR UPDATE OF c SKIP LOCKED
), room AS (
    SELECT CASE WHEN alone THEN 0 ELSE greatest(:budget - weight, 0) END AS ids FROM first
), candidates AS (
    SELECT id, sum(weight) OVER (ORDER BY place) AS ids FROM (
        SELECT c.id, {weight} AS weight, row_number() OVER (ORDER BY {order}) AS place FROM withdrawals.chunks c
        WHERE {due} AND NOT c.alone AND c.size <= :small AND c.id <> (SELECT id FROM first)
        ORDER BY {order} LIMIT (SELECT ids FROM room)) c
), more AS (
    SELECT c.id, c.redrives FROM withdrawals.chunks c
    WHERE c.id IN (SELECT id FROM candidates WHERE ids <= (SELECT ids FROM room)) AND c.state = 'ready'
    FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT id, redrives FROM first UNION ALL SELECT id, redrives FROM more
), mates AS (
    SELECT c.id FROM withdrawals.chunks c
    WHERE c.redrives IN (SELECT redrives FROM taken) AND c.state = 'ready' FOR UPDATE SKIP LOCKED
)
UPDATE withdrawals.chunks SET state = 'claimed', token = :token, claims = claims + 1,
    claimed_at = clock_timestamp(), lease_until = clock_timestamp() + :lease
WHERE id IN (SELECT id FROM taken UNION SELECT id FROM mates)
RETURNING id, EXISTS (SELECT 1 FROM withdrawals.chunks c
    WHERE {due} AND c.id NOT IN (SELECT id FROM taken UNION ALL SELECT id FROM mates)) AS more
"""
_WEIGHT = "CASE WHEN c.learner_external_id IS NULL THEN greatest(c.size, 1) ELSE 10 END"
_CLAIM_FAIR = text(_CLAIM.format(due=_DUE, order="c.lane, c.number, c.id", weight=_WEIGHT))
_CLAIM_OLDEST = text(_CLAIM.format(due=_DUE, order="c.id", weight=_WEIGHT))


def claim(connection: Connection, *, budget: int, lease: timedelta, oldest: bool = False) -> Claim | None:
    """Take due chunks of about `budget` ids, or none; `oldest` first instead of in fair order."""
    token = uuid4()
    rows = connection.execute(
        _CLAIM_OLDEST if oldest else _CLAIM_FAIR,
        {"budget": budget, "small": max(budget // 4, 1), "token": token, "lease": lease},
    ).all()
    return Claim(token, sorted(row.id for row in rows), rows[0].more) if rows else None


_COUNT_DUE = text(f"SELECT count(*) FROM (SELECT 1 FROM withdrawals.chunks c WHERE {_DUE} LIMIT :most) due")


def count_due(connection: Connection, *, most: int) -> int:
    """How many chunks are due, counted no further than `most`."""
    return int(connection.scalar(_COUNT_DUE, {"most": most}) or 0)


_LOCK = """
SELECT c.id, c.job_id, c.size, c.attempts, c.claims, c.learner_external_id, c.redrives AS letter_id,
    j.epoch, j.reinstates, c.redrives IS NOT NULL OR j.state = 'queued' AS proceed
FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
WHERE c.id = ANY(:ids) AND c.token = :token AND c.state = 'claimed' {lost}
ORDER BY c.id FOR UPDATE OF c {skip}
"""
_LOCK_HELD = text(_LOCK.format(lost="", skip=""))
_LOCK_LOST = text(_LOCK.format(lost="AND c.lease_until < clock_timestamp()", skip="SKIP LOCKED"))


def lock(connection: Connection, claim: Claim) -> list[Chunk]:
    """Lock those chunks of the claim that are still its own; any missing one was taken over, closed or done."""
    rows = connection.execute(_LOCK_HELD, {"ids": claim.chunk_ids, "token": claim.token})
    return [Chunk(**row) for row in rows.mappings()]


_DONE_BY = text("""
SELECT DISTINCT job_id FROM withdrawals.chunks WHERE id = ANY(:ids) AND token = :token AND state = 'done'
""")


def done_by(connection: Connection, claim: Claim) -> set[int]:
    """The jobs of chunks that this very claim has decided already."""
    return set(connection.scalars(_DONE_BY, {"ids": claim.chunk_ids, "token": claim.token}))


def lock_lost(connection: Connection, claim: Claim) -> list[Chunk]:
    """Lock the chunks of a claim whose lease ran out, except any whose transaction is running."""
    rows = connection.execute(_LOCK_LOST, {"ids": claim.chunk_ids, "token": claim.token})
    return [Chunk(**row) for row in rows.mappings()]


_GIVE_BACK = text("""
UPDATE withdrawals.chunks SET state = 'ready', claims = claims - 1, lease_until = NULL
WHERE id = ANY(:ids) AND token = :token AND state = 'claimed'
""")


def give_back(connection: Connection, chunk_ids: Sequence[int], token: UUID) -> int:
    """Return chunks undecided and refund the claim: nothing was wrong with them."""
    return connection.execute(_GIVE_BACK, {"ids": list(chunk_ids), "token": token}).rowcount


_ISOLATE = text("""
UPDATE withdrawals.chunks SET state = 'ready', alone = true, claims = claims - 1, lease_until = NULL
WHERE id = ANY(:ids) AND token = :token AND state = 'claimed'
""")


def isolate(connection: Connection, claim: Claim) -> int:
    """Return the chunks of a claim that failed together, to be claimed one by one: none of them is to blame yet."""
    return connection.execute(_ISOLATE, {"ids": claim.chunk_ids, "token": claim.token}).rowcount


_RETRY = text("""
UPDATE withdrawals.chunks SET state = 'ready', alone = true, lease_until = NULL,
    attempts = attempts + :failed, claims = claims - :failed, run_after = now() + :backoff
WHERE id = ANY(:ids) AND token = :token AND state = 'claimed'
""")


def retry(connection: Connection, chunk_ids: Sequence[int], token: UUID, *, backoff: timedelta, failed: bool) -> None:
    """Let chunks be claimed again, each alone, after `backoff`; a vanished claim (not `failed`) stays counted."""
    values = {"ids": list(chunk_ids), "token": token, "backoff": backoff, "failed": 1 if failed else 0}
    connection.execute(_RETRY, values)


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
    override, override_pathway, redrives, asked_by, parent_id)
SELECT job_id, organisation_id, number, lane, half, cardinality(half), 'ready', true,
    override, override_pathway, redrives, asked_by, id FROM halves
""")


def split(connection: Connection, chunk: Chunk, token: UUID) -> bool:
    """Replace a chunk of several ids by its halves, with fresh counts; False when it has but one or is lost."""
    return connection.execute(_SPLIT, {"id": chunk.id, "token": token}).rowcount == 2


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


def vanished(connection: Connection, *, most: int = 5000) -> list[Claim]:
    """Claims whose lease ran out, not locked yet."""
    return [Claim(row.token, list(row.ids)) for row in connection.execute(_VANISHED, {"most": most})]


_CLOSE_WHOLE = """
WITH closing AS (
    SELECT c.id FROM withdrawals.chunks c JOIN withdrawals.jobs j ON j.id = c.job_id
    WHERE {which} AND c.redrives IS NULL AND c.state IN ('waiting', 'ready', 'claimed')
    ORDER BY c.id FOR UPDATE OF c SKIP LOCKED
)
UPDATE withdrawals.chunks c SET state = :state, counts = jsonb_build_object(CAST(:state AS text), size),
    closed_at = now(), lease_until = NULL
FROM closing WHERE c.id = closing.id
RETURNING c.job_id
"""
_CLOSE_JOB = text(_CLOSE_WHOLE.format(which="c.job_id = :job_id"))
_CLOSE_CANCELLED = text(_CLOSE_WHOLE.format(which="j.state = 'cancelled' AND c.state IN ('waiting', 'ready')"))
_CLOSE_PERSON = text(
    _CLOSE_WHOLE.format(
        which="c.organisation_id = :organisation_id AND c.learner_external_id = :external_id"
        " AND j.epoch IS NOT NULL AND j.epoch <> :epoch"
    )
)
_CLOSE_CHUNKS = text(_CLOSE_WHOLE.format(which="c.id = ANY(:ids)"))


def close_job(connection: Connection, job_id: int) -> int:
    """Close a cancelled job's unfinished chunks whole, claimed ones included; one that is running is skipped."""
    return len(connection.scalars(_CLOSE_JOB, {"job_id": job_id, "state": "cancelled"}).all())


def close_cancelled(connection: Connection) -> list[int]:
    """Close chunks of cancelled jobs that came back after the cancel; returns their jobs."""
    return list(connection.scalars(_CLOSE_CANCELLED, {"state": "cancelled"}))


def close_superseded_person(connection: Connection, *, organisation_id: int, external_id: str, epoch: int) -> list[int]:
    """Close the unfinished chunks of a person's older deactivations; returns their jobs."""
    parameters = {
        "organisation_id": organisation_id, "external_id": external_id, "epoch": epoch, "state": "superseded"
    }  # fmt: skip
    return list(connection.scalars(_CLOSE_PERSON, parameters))


def close_superseded(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Close locked person chunks whose deactivation a newer event has replaced."""
    connection.execute(_CLOSE_CHUNKS, {"ids": list(chunk_ids), "state": "superseded"})
