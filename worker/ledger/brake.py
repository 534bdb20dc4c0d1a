"""What the brake counts: learners of admitted work in the window, and the learners of an organisation.

Every statement except the counts for show runs under the lock of the organisation's settings row (`lock`).
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, Interval, Select, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schemas.catalogue import JobState
from worker.ledger.fragments import plan_by_index
from worker.models import brake_volume, jobs, learners, organisation_settings, persons
from worker.records import Brake, Subject

AT_ONCE = 10_000
"""Ids whose learners are counted in well under a second; a statement about more gets all the time that it needs."""

# Of a job over ids: distinct, those that exist. A person job has one learner. The ids of a chunk are one array, which a
# single scan of the index goes along; looked up one by one they took three times as long.
_LEARNERS = """SELECT count(*) FROM (SELECT DISTINCT e.learner_id FROM withdrawals.job_chunks c
    CROSS JOIN LATERAL (SELECT e.learner_id FROM lms.enrolments e
        WHERE e.id = ANY(c.enrolment_ids) AND e.organisation_id = c.organisation_id OFFSET 0) e
    WHERE c.job_id = {job}) l"""
_SUBJECT = text(f"""
SELECT j.released_at IS NOT NULL AS released, CASE WHEN j.learners IS NOT NULL THEN j.learners
    WHEN j.learner_external_id IS NOT NULL THEN 1
    WHEN j.accepted <= :at_once THEN ({_LEARNERS.format(job="j.id")}) END AS learners
FROM withdrawals.jobs j WHERE j.id = :job_id
""")
_COUNT = text(_LEARNERS.format(job=":job_id"))
_TIMEOUT = text("SELECT current_setting('statement_timeout')")
_SET_TIMEOUT = text("SELECT set_config('statement_timeout', :value, true)")


def subject(connection: Connection, job_id: int) -> Subject:
    """Whether a job was released, and how many learners it is about.

    Call it before `lock`: the learners of a large job take a while to count.
    """
    row = connection.execute(_SUBJECT, {"job_id": job_id, "at_once": AT_ONCE}).one()
    return Subject(row.released, _count_many(connection, job_id) if row.learners is None else int(row.learners))


def _count_many(connection: Connection, job_id: int) -> int:
    """The learners of a large job, without the limit on the time of a statement."""
    plan_by_index(connection)
    limit = connection.scalar(_TIMEOUT)
    connection.execute(_SET_TIMEOUT, {"value": "0"})
    learners = connection.scalar(_COUNT, {"job_id": job_id})
    connection.execute(_SET_TIMEOUT, {"value": limit})
    return int(learners or 0)


def keep_learners(connection: Connection, job_id: int) -> None:
    """Count the learners of a job that was just frozen and is not due yet, so that its admission reads a number."""
    learners = subject(connection, job_id).learners
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(learners=learners))


_LIMITS = (
    organisation_settings.c.brake_floor.label("floor"),
    organisation_settings.c.brake_share.label("share"),
    organisation_settings.c.brake_hours.label("hours"),
)


_NEW = insert(organisation_settings)
_LOCK = _NEW.on_conflict_do_update(
    index_elements=["organisation_id"], set_={"organisation_id": _NEW.excluded.organisation_id}
).returning(*_LIMITS)


def lock(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """Lock the organisation's settings row, which puts admissions one after the other; the organisation's limits.

    Makes the row if it is missing.
    """
    row = connection.execute(_LOCK, {"organisation_id": organisation_id}).mappings().one()
    return _with_defaults(row, defaults)


def read(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """The organisation's limits, without a lock."""
    return _with_defaults(own(connection, organisation_id), defaults)


def own(connection: Connection, organisation_id: int) -> dict[str, Any]:
    """What an organisation has set for itself: `floor`, `share`, `hours`, each None for the default."""
    statement = select(*_LIMITS).where(organisation_settings.c.organisation_id == organisation_id)
    row = connection.execute(statement).mappings().one_or_none()
    return dict(row) if row else {"floor": None, "share": None, "hours": None}


def set_limits(
    connection: Connection, organisation_id: int, *, floor: int | None, share: float | None, hours: int | None
) -> None:
    """Give an organisation limits of its own; None: the default."""
    statement = (
        update(organisation_settings)
        .where(organisation_settings.c.organisation_id == organisation_id)
        .values(brake_floor=floor, brake_share=share, brake_hours=hours, counted_at=None)
    )
    connection.execute(statement)


def _with_defaults(limits: Any, defaults: Brake) -> Brake:
    """The limits of a row; a null stands for the default."""
    found = {name: value for name, value in limits.items() if value is not None}
    return Brake(**{"floor": defaults.floor, "share": defaults.share, "hours": defaults.hours, **found})


_ORGANISATION = bindparam("organisation_id", type_=BigInteger)
_POPULATION = (
    select(organisation_settings.c.population)
    .where(
        organisation_settings.c.organisation_id == _ORGANISATION,
        organisation_settings.c.counted_at > func.clock_timestamp() - timedelta(seconds=30),
    )
    .scalar_subquery()
)
_VOLUME = select(
    func.coalesce(func.sum(brake_volume.c.jobs + brake_volume.c.redrives), 0).label("volume"),
    _POPULATION.label("population"),
).where(
    brake_volume.c.organisation_id == _ORGANISATION,
    brake_volume.c.minute > func.now() - bindparam("window", type_=Interval),
)


def volume(connection: Connection, organisation_id: int, hours: int) -> tuple[int, int | None]:
    """Learners of what was admitted in the window; and all learners, None when not counted in the last 30 seconds."""
    a_minute_longer = timedelta(hours=hours, minutes=1)  # a minute counts until all of it has left the window
    row = connection.execute(_VOLUME, {"organisation_id": organisation_id, "window": a_minute_longer}).one()
    return int(row.volume), row.population


def add_jobs(connection: Connection, organisation_id: int, learners: int) -> None:
    """Count the learners of jobs that are inserted as admitted in this transaction."""
    _add(connection, organisation_id, jobs=learners)


def add_redrives(connection: Connection, organisation_id: int, learners: int) -> None:
    """Count the learners of redrives and remedies, which are not jobs."""
    _add(connection, organisation_id, redrives=learners)


def _add(connection: Connection, organisation_id: int, **learners: int) -> None:
    row = insert(brake_volume).values(
        organisation_id=organisation_id, minute=func.date_trunc("minute", func.now()), **learners
    )
    added = {name: brake_volume.c[name] + row.excluded[name] for name in learners}
    connection.execute(row.on_conflict_do_update(index_elements=["organisation_id", "minute"], set_=added))


# The window's minutes, counted again from the jobs that were admitted in them.
_RECOUNT_JOBS = text("""
WITH
-- A job that was superseded counts no longer, nor one cancelled before anything of it was decided (no learners).
counted AS (
    SELECT date_trunc('minute', admitted_at) AS minute, sum(learners) AS learners FROM withdrawals.jobs
    WHERE organisation_id = :organisation_id AND admitted_at > now() - make_interval(hours => :hours, mins => 2)
        AND state <> 'superseded'
    GROUP BY 1
),
-- Minutes that are older than the longest window (720 hours).
dropped AS (
    DELETE FROM withdrawals.brake_volume
    WHERE organisation_id = :organisation_id AND minute < now() - interval '721 hours'
)
UPDATE withdrawals.brake_volume v
SET jobs = coalesce((SELECT c.learners FROM counted c WHERE c.minute = v.minute), 0)
WHERE v.organisation_id = :organisation_id AND v.minute > now() - make_interval(hours => :hours, mins => 1)
    AND v.jobs <> coalesce((SELECT c.learners FROM counted c WHERE c.minute = v.minute), 0)
""")


_DELETE_OLD = text("""
DELETE FROM withdrawals.brake_volume WHERE (organisation_id, minute) IN (
    SELECT organisation_id, minute FROM withdrawals.brake_volume WHERE minute < now() - interval '721 hours'
    ORDER BY minute LIMIT :most FOR UPDATE SKIP LOCKED)
""")


def delete_old(connection: Connection, *, most: int = 5000) -> int:
    """Delete minutes of any organisation that are older than the longest window (720 hours), up to `most`; how many.

    An organisation that admits nothing any more does not recount, which deletes its own.
    """
    return connection.execute(_DELETE_OLD, {"most": most}).rowcount


def recount(connection: Connection, organisation_id: int, hours: int) -> int:
    """Count the window's jobs again, and the learners, and keep both; the learners."""
    connection.execute(_RECOUNT_JOBS, {"organisation_id": organisation_id, "hours": hours})
    statement = (
        update(organisation_settings)
        .where(organisation_settings.c.organisation_id == organisation_id)
        .values(population=_population(organisation_id, hours).scalar_subquery(), counted_at=func.clock_timestamp())
        .returning(organisation_settings.c.population)
    )
    return int(connection.scalar(statement) or 0)


def count_population(connection: Connection, organisation_id: int, hours: int) -> int:
    """Learners who are active, and those deactivated in the window, counted now; writes nothing."""
    return int(connection.scalar(_population(organisation_id, hours)) or 0)


def _population(organisation_id: int, hours: int) -> Select[int]:
    """A learner whom the platform has deleted counts as neither."""
    deactivated = (
        select(persons.c.external_id)
        .where(
            persons.c.organisation_id == learners.c.organisation_id,
            persons.c.external_id == learners.c.external_id,
            ~persons.c.active,
            persons.c.effective_at > func.now() - timedelta(hours=hours),
        )
        .exists()
    )
    return select(func.count(learners.c.id)).where(
        learners.c.organisation_id == organisation_id, or_(learners.c.active, deactivated)
    )


_FORGET = text("""
WITH
-- A job that was cancelled before anything of it was decided has no learners any more.
forgotten AS (
    UPDATE withdrawals.jobs j SET learners = NULL WHERE j.id = :job_id AND NOT EXISTS (
        SELECT 1 FROM withdrawals.job_chunks c WHERE c.job_id = j.id AND c.state <> 'cancelled')
    RETURNING organisation_id
)
-- The next admission counts again; a settings row that an admission has locked is left alone.
UPDATE withdrawals.organisation_settings SET counted_at = NULL
WHERE organisation_id IN (SELECT s.organisation_id FROM withdrawals.organisation_settings s
    JOIN forgotten USING (organisation_id) FOR UPDATE OF s SKIP LOCKED)
""")


def forget(connection: Connection, job_id: int) -> None:
    """Take a job that was cancelled before anything of it was decided out of the count.

    At once, unless an admission is running: a cancel does not wait for that; the count is right within 30 seconds.
    """
    connection.execute(_FORGET, {"job_id": job_id})


def count_held(connection: Connection, organisation_id: int) -> int:
    """Jobs of an organisation that wait for a second person, whatever the cause."""
    statement = select(func.count(jobs.c.id)).where(
        jobs.c.organisation_id == organisation_id, jobs.c.state == JobState.HELD
    )
    return int(connection.scalar(statement) or 0)
