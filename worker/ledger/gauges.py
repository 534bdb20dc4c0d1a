"""Counts of what waits: over all organisations for `/metrics`, which shows no names; of one for its pages."""

from sqlalchemy import Connection, Select, case, exists, func, literal, or_, select, union_all

from schemas.catalogue import JobState, LetterState
from worker.ledger.fragments import one_of
from worker.models import chunks, dead_letters, job_chunks, jobs

COUNTED_AT_MOST = 1000
"""Jobs of one state that are counted. Of more, a page says that there are more."""


def held_jobs(connection: Connection) -> dict[str, int]:
    """Jobs that wait for a second person, by cause."""
    held = select(jobs.c.held_because, func.count()).where(jobs.c.state == JobState.HELD)
    return {str(cause): count for cause, count in connection.execute(held.group_by(jobs.c.held_because))}


def open_letters(connection: Connection) -> dict[str, int]:
    """Open dead letters by code."""
    is_open = one_of(dead_letters.c.state, [LetterState.OPEN])
    counted = select(dead_letters.c.code, func.count()).where(is_open).group_by(dead_letters.c.code)
    return {code: count for code, count in connection.execute(counted)}  # noqa: C416


def due_chunks(connection: Connection) -> tuple[int, float]:
    """Chunks of all organisations that are due, and the seconds that the oldest has waited."""
    age = func.coalesce(func.extract("epoch", func.now() - func.min(chunks.c.run_after)), 0)
    waiting = (
        select(func.count(), age)
        .join_from(chunks, jobs, jobs.c.id == chunks.c.job_id)
        .where(
            one_of(chunks.c.state, ["ready"]),
            chunks.c.run_after <= func.now(),
            # a chunk that tries a dead letter again does not wait for its job
            or_(chunks.c.redrives.is_not(None), jobs.c.state == JobState.QUEUED),
        )
    )
    count, seconds = connection.execute(waiting).one()
    return int(count), float(seconds)


def unfinished_jobs(connection: Connection, organisation_id: int) -> dict[str, int]:
    """Jobs of an organisation that have not ended, by state; each stored state up to one more than the limit."""
    own = select(jobs.c.id).where(jobs.c.organisation_id == organisation_id)
    counts: list[Select[str, int]] = []
    for state in (JobState.SCHEDULED, JobState.HELD, JobState.PAUSED):
        few = own.where(jobs.c.state == state).limit(COUNTED_AT_MOST + 1).subquery()
        counts.append(select(literal(state.value), func.count()).select_from(few))
    begun = exists().where(job_chunks.c.job_id == jobs.c.id, job_chunks.c.state.not_in(("waiting", "ready")))
    newest = select(begun.correlate(jobs).label("begun")).where(
        jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.QUEUED
    )
    few = newest.order_by(jobs.c.id.desc()).limit(COUNTED_AT_MOST + 1).subquery()
    shown = case((few.c.begun, JobState.RUNNING.value), else_=JobState.QUEUED.value)
    counts.append(select(shown, func.count()).group_by(few.c.begun))
    return {state: count for state, count in connection.execute(union_all(*counts))}  # noqa: C416
