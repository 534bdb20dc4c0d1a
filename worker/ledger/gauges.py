"""Counts of what waits: over all organisations for `/metrics`, which shows no names; of one for its pages."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Select, Text, case, func, literal, select, text, union_all

from schemas.catalogue import JobState, LetterCode, LetterState
from worker.ledger.fragments import one_of, plan_by_index
from worker.models import dead_letters, job_chunks, jobs
from worker.records import LANE_BULK, LANE_HR, LANE_LETTERS

COUNTED_AT_MOST = 1000
"""Jobs of one state that are counted. Of more, a page says that there are more."""
GAUGED_AT_MOST = 10_000
"""What a gauge counts to, so that a scrape costs the same however much waits."""
HELD_BECAUSE = ("brake", "policy")
"""Why a job waits for a second person."""


def held_jobs(connection: Connection) -> dict[str, int]:
    """Jobs that wait for a second person, by cause, each counted up to `GAUGED_AT_MOST`."""
    of_cause = select(jobs.c.id).where(one_of(jobs.c.state, [JobState.HELD]))
    return _count_each(connection, {cause: of_cause.where(jobs.c.held_because == cause) for cause in HELD_BECAUSE})


def open_letters(connection: Connection) -> dict[str, int]:
    """Open dead letters by code, each counted up to `GAUGED_AT_MOST`."""
    is_open = select(dead_letters.c.id).where(one_of(dead_letters.c.state, [LetterState.OPEN]))
    return _count_each(connection, {code: is_open.where(dead_letters.c.code == code) for code in LetterCode})


def _count_each(connection: Connection, queries: Mapping[str, Select[int]]) -> dict[str, int]:
    """How many rows each of these finds, up to the limit; those that find none are left out."""
    plan_by_index(connection)
    counts = [
        select(literal(name, Text), func.count()).select_from(query.limit(GAUGED_AT_MOST).subquery())
        for name, query in queries.items()
    ]
    return {name: count for name, count in connection.execute(union_all(*counts)) if count}


# The job is looked up for each chunk as a value: a join could begin with all jobs.
_DUE_CHUNKS = text("""
SELECT count(*) AS chunks, coalesce(extract(epoch FROM now() - min(run_after)), 0) AS seconds FROM (
    SELECT c.run_after FROM withdrawals.chunks c
    WHERE c.state = 'ready' AND NOT c.deferred AND c.run_after <= now()
        -- a chunk that tries a dead letter again does not wait for its job
        AND (c.redrives IS NOT NULL OR (SELECT j.state FROM withdrawals.jobs j WHERE j.id = c.job_id) = 'queued')
    ORDER BY c.id LIMIT :most) due
""")


def due_chunks(connection: Connection) -> tuple[int, float]:
    """Chunks of all organisations that are due, and the seconds that the oldest has waited.

    The `GAUGED_AT_MOST` that came first are looked at.
    """
    plan_by_index(connection)
    found = connection.execute(_DUE_CHUNKS, {"most": GAUGED_AT_MOST}).one()
    return int(found.chunks), float(found.seconds)


# In the order in which claims take them: per lane, so that a long lane does not hide another.
_DUE_OF_LANE = """
(SELECT {lane} AS lane, count(*) AS chunks, coalesce(extract(epoch FROM now() - min(run_after)), 0) AS seconds FROM (
    SELECT c.run_after FROM withdrawals.chunks c
    WHERE c.state = 'ready' AND NOT c.deferred AND c.run_after <= now() AND c.lane = {lane}
        AND (c.redrives IS NOT NULL OR (SELECT j.state FROM withdrawals.jobs j WHERE j.id = c.job_id) = 'queued')
    ORDER BY c.number, c.id LIMIT :most) due)
"""
_DUE_BY_LANE = text(" UNION ALL ".join(_DUE_OF_LANE.format(lane=lane) for lane in (LANE_HR, LANE_LETTERS, LANE_BULK)))


def due_by_lane(connection: Connection) -> dict[int, tuple[int, float]]:
    """Of each lane: its due chunks, and the seconds that the oldest of them has waited.

    Of each the `GAUGED_AT_MOST` that come next are looked at.
    """
    plan_by_index(connection)
    rows = connection.execute(_DUE_BY_LANE, {"most": GAUGED_AT_MOST})
    return {row.lane: (int(row.chunks), float(row.seconds)) for row in rows}


_CLAIMED = text("""
SELECT count(*) FILTER (WHERE lease_until >= now()) AS held, count(*) FILTER (WHERE lease_until < now()) AS expired
FROM (SELECT lease_until FROM withdrawals.chunks WHERE state = 'claimed' ORDER BY lease_until LIMIT :most) claimed
""")


def claimed_chunks(connection: Connection) -> dict[str, int]:
    """Claimed chunks by their lease, `held` or `expired`; those whose lease ends first, up to `GAUGED_AT_MOST`."""
    plan_by_index(connection)
    found = connection.execute(_CLAIMED, {"most": GAUGED_AT_MOST}).one()
    return {"held": int(found.held), "expired": int(found.expired)}


_DELIVERIES = text("""
SELECT 'due' AS state, count(*) AS deliveries FROM (
    SELECT 1 FROM withdrawals.deliveries WHERE state IN ('due', 'sending') ORDER BY endpoint_id, attempts, id
    LIMIT :most) due
UNION ALL
SELECT 'failed', count(*) FROM (
    SELECT 1 FROM withdrawals.deliveries WHERE state = 'failed' ORDER BY created_at LIMIT :most) failed
""")


def deliveries(connection: Connection) -> dict[str, int]:
    """Webhook deliveries of all organisations that are on their way (`due`) or were given up (`failed`)."""
    plan_by_index(connection)
    return {row.state: int(row.deliveries) for row in connection.execute(_DELIVERIES, {"most": GAUGED_AT_MOST})}


_MESSAGES = text("""
SELECT 'due' AS state, count(*) AS messages FROM (
    SELECT 1 FROM withdrawals.notification_messages WHERE state IN ('due', 'sending') ORDER BY run_after, id
    LIMIT :most) due
UNION ALL
SELECT 'failed', count(*) FROM (
    SELECT 1 FROM withdrawals.notification_messages WHERE state = 'failed' ORDER BY id LIMIT :most) failed
""")


def messages(connection: Connection) -> dict[str, int]:
    """Messages to people, of all organisations, that are on their way (`due`) or have failed."""
    plan_by_index(connection)
    return {row.state: int(row.messages) for row in connection.execute(_MESSAGES, {"most": GAUGED_AT_MOST})}


_HELD_SINCE = text("""
SELECT coalesce(extract(epoch FROM now() - min(greatest(created_at, effective_at))), 0) FROM (
    SELECT created_at, effective_at FROM withdrawals.jobs WHERE state = 'held' ORDER BY held_because LIMIT :most) held
""")


def held_seconds(connection: Connection) -> float:
    """Seconds since the oldest held job could have begun. `GAUGED_AT_MOST` are looked at."""
    plan_by_index(connection)
    return max(float(connection.scalar(_HELD_SINCE, {"most": GAUGED_AT_MOST}) or 0), 0.0)


_WAITING_EVENTS = text("""
SELECT count(*) AS events, coalesce(extract(epoch FROM now() - min(received_at)), 0) AS seconds FROM (
    (SELECT r.received_at FROM withdrawals.receipts r WHERE r.waiting AND NOT r.lookup
        ORDER BY r.organisation_id, r.run_after, r.id LIMIT :most)
    UNION ALL (SELECT r.received_at FROM withdrawals.receipts r WHERE r.lookup ORDER BY r.run_after, r.id LIMIT :most)
    LIMIT :most) waiting
""")


def waiting_events(connection: Connection) -> tuple[int, float]:
    """Events in the inbox of all organisations, and the seconds that the oldest has waited.

    `GAUGED_AT_MOST` are looked at.
    """
    plan_by_index(connection)
    found = connection.execute(_WAITING_EVENTS, {"most": GAUGED_AT_MOST}).one()
    return int(found.events), max(float(found.seconds), 0.0)


_FEED = text("""
SELECT coalesce((SELECT extract(epoch FROM now() - f.at) FROM withdrawals.feed f
        WHERE f.position IS NULL ORDER BY f.id LIMIT 1), 0) AS unseen,
    (SELECT coalesce(extract(epoch FROM now() - min(n.at)), 0) FROM withdrawals.endpoints e CROSS JOIN LATERAL (
        SELECT f.at FROM withdrawals.feed f WHERE f.organisation_id = e.organisation_id AND f.position > e.feed_position
        ORDER BY f.position LIMIT 1) n
        WHERE e.follows AND e.disabled_at IS NULL AND e.paused_at IS NULL) AS unsent,
    (SELECT count(*) FROM withdrawals.endpoints WHERE paused_at IS NOT NULL AND disabled_at IS NULL) AS paused
""")


@dataclass(frozen=True, slots=True)
class FeedGauges:
    """How far behind the feed and its webhooks are."""

    unseen: float
    """Seconds since the oldest event that readers do not see yet."""
    unsent: float
    """Seconds since the oldest event that a webhook has still to get; paused ones are left out."""
    paused: int
    """Webhooks that get no batches until somebody resumes them."""


def feed(connection: Connection) -> FeedGauges:
    """How far behind the feed and its webhooks are, over all organisations."""
    plan_by_index(connection)
    found = connection.execute(_FEED).one()
    return FeedGauges(max(float(found.unseen), 0.0), max(float(found.unsent), 0.0), int(found.paused))


def unfinished_jobs(connection: Connection, organisation_id: int) -> dict[str, int]:
    """Jobs of an organisation that have not ended, by state; each stored state up to one more than the limit."""
    plan_by_index(connection)
    own = select(jobs.c.id).where(jobs.c.organisation_id == organisation_id)
    counts: list[Select[str, int]] = []
    for state in (JobState.SCHEDULED, JobState.HELD, JobState.PAUSED):
        few = own.where(jobs.c.state == state).limit(COUNTED_AT_MOST + 1).subquery()
        counts.append(select(literal(state.value), func.count()).select_from(few))
    begun = (
        select(literal(1))
        .where(job_chunks.c.job_id == jobs.c.id, job_chunks.c.state.not_in(("waiting", "ready")))
        .offset(0)  # looked up for each job; a join could begin with all chunks
        .exists()
    )
    newest = select(begun.correlate(jobs).label("begun")).where(
        jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.QUEUED
    )
    few = newest.order_by(jobs.c.id.desc()).limit(COUNTED_AT_MOST + 1).subquery()
    shown = case((few.c.begun, JobState.RUNNING.value), else_=JobState.QUEUED.value)
    counts.append(select(shown, func.count()).group_by(few.c.begun))
    return {state: count for state, count in connection.execute(union_all(*counts))}  # noqa: C416
