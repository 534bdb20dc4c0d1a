"""What the brake counts: learners whom admitted work withdraws, in the window; and the learners of an organisation.

A job counts those whom the rules would withdraw when it is admitted, and from its end on those whom it withdrew and
nobody has taken back. Its row and its minute of the window change in one transaction, so that they agree at any time.
Every statement except corrections and the counts for show runs under the lock of the organisation's settings row.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, Interval, Select, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schemas.catalogue import GuardedAct, JobState
from worker.brake_limits import Brake
from worker.ledger.brake_series import HAS_LIMIT
from worker.ledger.fragments import IS_WITHDRAWN, WOULD_WITHDRAW, plan_by_index
from worker.models import brake_volume, jobs, learners, organisation_settings, persons
from worker.records import Subject

AT_ONCE = 10_000
"""Ids whose learners are counted in well under a second; a statement about more gets all the time that it needs."""

# Of a job over ids: distinct. A person job has one learner, or none. The ids of a chunk are one array, which a single
# scan of the index goes along; looked up one by one they took three times as long. OFFSET 0: without it, the planner
# may read all active enrolments of the platform for each chunk, by an index of those.
_ORGANISATION_OF_JOB = "(SELECT o.organisation_id FROM withdrawals.jobs o WHERE o.id = {job})"
_LEARNERS = f"""SELECT count(*) FROM (SELECT DISTINCT e.learner_id FROM withdrawals.job_chunks c
    CROSS JOIN LATERAL (SELECT e.id, e.organisation_id, e.learner_id, e.status, e.pathway_id FROM lms.enrolments e
        WHERE e.id = ANY(c.enrolment_ids) AND e.organisation_id = c.organisation_id OFFSET 0) e
    WHERE c.job_id = {{job}} AND {WOULD_WITHDRAW.format(organisation=_ORGANISATION_OF_JOB)}) l"""
_SUBJECT = text(f"""
SELECT j.released_at IS NOT NULL AS released, j.door, j.source,
    {HAS_LIMIT.format(organisation="j.organisation_id")} AS is_by_series, CASE WHEN j.kind = 'reinstate' THEN 0
    WHEN j.learner_external_id IS NOT NULL
        THEN ({IS_WITHDRAWN.format(organisation="j.organisation_id", person="j.learner_external_id")})::integer
    WHEN j.accepted <= :at_once THEN ({_LEARNERS.format(job="j.id")}) END AS learners
FROM withdrawals.jobs j WHERE j.id = :job_id
""")
_COUNT = text(_LEARNERS.format(job=":job_id"))
_TIMEOUT = text("SELECT current_setting('statement_timeout')")
_SET_TIMEOUT = text("SELECT set_config('statement_timeout', :value, true)")


def subject(connection: Connection, job_id: int) -> Subject:
    """Whether a job was released, and how many learners the rules would withdraw now.

    Call it before `lock`: the learners of a large job take a while to count.
    """
    plan_by_index(connection)
    row = connection.execute(_SUBJECT, {"job_id": job_id, "at_once": AT_ONCE}).one()
    learners = _count_many(connection, job_id) if row.learners is None else int(row.learners)
    return Subject(row.released, learners, row.door, row.source, row.is_by_series)


_COUNT_PERSONS = text(f"""
SELECT g.person FROM unnest(CAST(:persons AS text[])) AS g(person)
WHERE {IS_WITHDRAWN.format(organisation=":organisation_id", person="g.person")}
""")


def find_withdrawn_persons(connection: Connection, organisation_id: int, external_ids: Sequence[str]) -> set[str]:
    """Those of the persons of whom the rules would withdraw anything now."""
    values = {"organisation_id": organisation_id, "persons": list(external_ids)}
    return set(connection.scalars(_COUNT_PERSONS, values))


def _count_many(connection: Connection, job_id: int) -> int:
    """The learners of a large job."""
    with without_timeout(connection):
        return int(connection.scalar(_COUNT, {"job_id": job_id}) or 0)


@contextmanager
def without_timeout(connection: Connection) -> Iterator[None]:
    """Let statements about many ids take the time that they need; an error ends the transaction, and this with it."""
    limit = connection.scalar(_TIMEOUT)
    connection.execute(_SET_TIMEOUT, {"value": "0"})
    yield
    connection.execute(_SET_TIMEOUT, {"value": limit})


_LIMITS = (
    organisation_settings.c.brake_floor.label("floor"),
    organisation_settings.c.brake_share.label("share"),
    organisation_settings.c.brake_hours.label("hours"),
)


_NEW = insert(organisation_settings)
_LOCK = _NEW.on_conflict_do_update(
    index_elements=["organisation_id"], set_={"organisation_id": _NEW.excluded.organisation_id}
).returning(*_LIMITS, organisation_settings.c.policies)


def lock(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """Lock the organisation's settings row, which puts admissions one after the other; the organisation's limits.

    Makes the row if it is missing.
    """
    row = connection.execute(_LOCK, {"organisation_id": organisation_id}).one()
    return with_defaults(row._asdict(), defaults)


def read(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """The organisation's limits, without a lock."""
    statement = select(*_LIMITS, organisation_settings.c.policies).where(
        organisation_settings.c.organisation_id == organisation_id
    )
    row = connection.execute(statement).mappings().one_or_none()
    return with_defaults(dict(row) if row else {}, defaults)


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


def with_defaults(limits: Mapping[str, Any], defaults: Brake) -> Brake:
    """The limits of an organisation from its `floor`, `share` and `hours`; a null stands for the default.

    With `policies`: also those for one source and one Series.
    """
    found = {name: limits[name] for name in ("floor", "share", "hours") if limits.get(name) is not None}
    rules = limits.get("policies") or []
    of_source = {rule["source"]: rule["alone_up_to"] for rule in rules if rule["act"] == GuardedAct.WITHDRAW}
    of_series = [rule["alone_up_to"] for rule in rules if rule["act"] == GuardedAct.WITHDRAW_SERIES]
    given = {"floor": defaults.floor, "share": defaults.share, "hours": defaults.hours, **found}
    return Brake(**given, of_source=of_source, of_series=of_series[0] if of_series else None)


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


def part_volume(connection: Connection, organisation_id: int, hours: int, *, source: str) -> int:
    """Learners of the jobs that were admitted in the window from a source.

    Read from the jobs, where a limit for it is set: nobody else pays for a count by source.
    """
    statement = select(func.coalesce(func.sum(jobs.c.learners), 0)).where(
        jobs.c.organisation_id == organisation_id,
        jobs.c.admitted_at > func.now() - timedelta(hours=hours),
        jobs.c.state != JobState.SUPERSEDED,
        jobs.c.source == source,
    )
    return int(connection.scalar(statement) or 0)


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


# Minutes that do not say what their jobs say; nothing but a fault makes one. They are locked first: then no correction
# is under way, and the statement that writes them sees every one before.
_DIFFERING = """
counted AS (
    -- A job that an older version ended as superseded kept its learners, and counts no longer.
    SELECT date_trunc('minute', admitted_at) AS minute, sum(learners) AS learners FROM withdrawals.jobs
    WHERE organisation_id = :organisation_id AND admitted_at > now() - make_interval(hours => :hours, mins => 2)
        AND state <> 'superseded'
    GROUP BY 1
), differing AS (
    SELECT v.minute, coalesce(c.learners, 0) AS learners FROM withdrawals.brake_volume v
    LEFT JOIN counted c ON c.minute = v.minute
    WHERE v.organisation_id = :organisation_id AND v.minute > now() - make_interval(hours => :hours, mins => 1)
        AND v.jobs <> coalesce(c.learners, 0)
)"""
_LOCK_DIFFERING = text(f"""
WITH {_DIFFERING}
SELECT v.minute FROM withdrawals.brake_volume v
WHERE v.organisation_id = :organisation_id AND v.minute IN (SELECT minute FROM differing) ORDER BY 1 FOR UPDATE
""")
_RECOUNT_JOBS = text(f"""
WITH {_DIFFERING}
UPDATE withdrawals.brake_volume v SET jobs = d.learners FROM differing d
WHERE v.organisation_id = :organisation_id AND v.minute = d.minute AND v.minute = ANY(:minutes)
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
    window = {"organisation_id": organisation_id, "hours": hours}
    minutes = list(connection.scalars(_LOCK_DIFFERING, window))
    if minutes:
        connection.execute(_RECOUNT_JOBS, {**window, "minutes": minutes})
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
