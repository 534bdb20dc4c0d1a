"""The brake's window as people look at it: what used it, when it has room, and what is held. No locks are taken."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from schemas.brake import WindowUse
from schemas.catalogue import JobState
from worker.models import brake_volume, jobs, organisation_settings

LARGEST_JOBS = 3
"""Jobs that are shown of a window."""


def list_largest(connection: Connection, organisation_id: int, hours: int) -> list[WindowUse]:
    """The jobs of the window with the most learners."""
    statement = (
        select(jobs.c.id, jobs.c.learners, jobs.c.requested_by, jobs.c.admitted_at)
        .where(
            jobs.c.organisation_id == organisation_id,
            jobs.c.admitted_at > func.now() - timedelta(hours=hours),
            jobs.c.state != JobState.SUPERSEDED,
            jobs.c.learners > 0,
        )
        .order_by(jobs.c.learners.desc(), jobs.c.id.desc())
        .limit(LARGEST_JOBS)
    )
    return [
        WindowUse(job_id=row.id, learners=row.learners, requested_by=row.requested_by, admitted_at=row.admitted_at)
        for row in connection.execute(statement)
    ]


def list_minutes(connection: Connection, organisation_id: int, hours: int) -> list[tuple[datetime, int]]:
    """The minutes of the window, oldest first: when each leaves it, and the learners that leave with it."""
    leaves = brake_volume.c.minute + timedelta(hours=hours, minutes=1)
    statement = (
        select(leaves, brake_volume.c.jobs + brake_volume.c.redrives)
        .where(brake_volume.c.organisation_id == organisation_id, leaves > func.now())
        .order_by(brake_volume.c.minute)
    )
    return [(row[0], int(row[1])) for row in connection.execute(statement)]


def count_redrives(connection: Connection, organisation_id: int, hours: int) -> int:
    """Learners in the window that were counted with attempts at letters."""
    statement = select(func.coalesce(func.sum(brake_volume.c.redrives), 0)).where(
        brake_volume.c.organisation_id == organisation_id,
        brake_volume.c.minute > func.now() - timedelta(hours=hours, minutes=1),
    )
    return int(connection.scalar(statement) or 0)


def known_population(connection: Connection, organisation_id: int) -> int | None:
    """The learners as they were last counted, however long ago; None: never."""
    mine = organisation_settings.c.organisation_id == organisation_id
    return connection.scalar(select(organisation_settings.c.population).where(mine))


def count_held(connection: Connection, organisation_id: int) -> int:
    """Jobs of an organisation that wait for a second person, whatever the cause."""
    statement = select(func.count(jobs.c.id)).where(
        jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.HELD
    )
    return int(connection.scalar(statement) or 0)
