"""What the brake counts: learners of admitted work in the window, and learners that there are.

Every statement but the counts for show runs under the lock of the organisation's settings row (`lock`).
"""

from typing import Any

from sqlalchemy import Connection, text

from worker.records import Brake, Subject

_SUBJECT = text("""
SELECT j.released_at IS NOT NULL AS released, CASE WHEN j.learners IS NOT NULL THEN j.learners
    WHEN j.learner_external_id IS NOT NULL THEN 1
    ELSE (SELECT count(DISTINCT e.learner_id) FROM withdrawals.chunks c
        CROSS JOIN LATERAL unnest(c.enrolment_ids) AS asked(id)
        JOIN lms.enrolments e ON e.id = asked.id AND e.organisation_id = c.organisation_id
        WHERE c.job_id = j.id AND c.redrives IS NULL) END AS learners
FROM withdrawals.jobs j WHERE j.id = :job_id
""")


def subject(connection: Connection, job_id: int) -> Subject:
    """Whether a job was released, and its learners: distinct, of its enrolments that exist; a person job's is one.

    Before the lock, because a large job takes a while to count.
    """
    row = connection.execute(_SUBJECT, {"job_id": job_id}).one()
    return Subject(row.released, int(row.learners))


_LIMITS = "brake_floor AS floor, brake_share AS share, brake_hours AS hours"
_LOCK = text(f"""
INSERT INTO withdrawals.organisation_settings (organisation_id) VALUES (:organisation_id)
ON CONFLICT (organisation_id) DO UPDATE SET organisation_id = excluded.organisation_id
RETURNING {_LIMITS}
""")
_READ = text(f"SELECT {_LIMITS} FROM withdrawals.organisation_settings WHERE organisation_id = :organisation_id")
_SET = text("""
UPDATE withdrawals.organisation_settings SET brake_floor = :floor, brake_share = :share, brake_hours = :hours,
    counted_at = NULL
WHERE organisation_id = :organisation_id
""")


def lock(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """Take the organisation's settings row, made if missing: admissions come one after the other; its limits."""
    return _over(connection.execute(_LOCK, {"organisation_id": organisation_id}).mappings().one(), defaults)


def read(connection: Connection, organisation_id: int, defaults: Brake) -> Brake:
    """The organisation's limits, without a lock."""
    row = connection.execute(_READ, {"organisation_id": organisation_id}).mappings().one_or_none()
    return _over(row, defaults) if row else defaults


def own(connection: Connection, organisation_id: int) -> dict[str, Any]:
    """What an organisation has set for itself: `floor`, `share`, `hours`, each None for the default."""
    row = connection.execute(_READ, {"organisation_id": organisation_id}).mappings().one_or_none()
    return dict(row) if row else {"floor": None, "share": None, "hours": None}


def set_limits(
    connection: Connection, organisation_id: int, *, floor: int | None, share: float | None, hours: int | None
) -> None:
    """Give an organisation limits of its own; None: the default."""
    values = {"organisation_id": organisation_id, "floor": floor, "share": share, "hours": hours}
    connection.execute(_SET, values)


def _over(row: Any, defaults: Brake) -> Brake:
    """The limits of a row; what it leaves open is the default's."""
    found = {name: value for name, value in row.items() if value is not None}
    return Brake(**{"floor": defaults.floor, "share": defaults.share, "hours": defaults.hours, **found})


# A minute counts until all of it has left the window.
_VOLUME = text("""
SELECT coalesce(sum(jobs + redrives), 0) AS volume, (
    SELECT population FROM withdrawals.organisation_settings
    WHERE organisation_id = :organisation_id AND counted_at > clock_timestamp() - interval '30 seconds') AS population
FROM withdrawals.brake_volume
WHERE organisation_id = :organisation_id AND minute > now() - make_interval(hours => :hours, mins => 1)
""")


def volume(connection: Connection, organisation_id: int, hours: int) -> tuple[int, int | None]:
    """Learners of what was admitted in the window, and those that there are if counted in the last 30 seconds."""
    row = connection.execute(_VOLUME, {"organisation_id": organisation_id, "hours": hours}).one()
    return int(row.volume), row.population


_ADD_REDRIVES = text("""
INSERT INTO withdrawals.brake_volume AS known (organisation_id, minute, redrives)
VALUES (:organisation_id, date_trunc('minute', now()), :learners)
ON CONFLICT (organisation_id, minute) DO UPDATE SET redrives = known.redrives + excluded.redrives
""")


def add_redrives(connection: Connection, organisation_id: int, learners: int) -> None:
    """Count learners of redrives and remedies, which are no jobs."""
    connection.execute(_ADD_REDRIVES, {"organisation_id": organisation_id, "learners": learners})


# A deactivated learner who is gone from the platform is neither.
_POPULATION = """
SELECT count(*) FROM lms.learners l WHERE l.organisation_id = :organisation_id AND (l.active OR EXISTS (
    SELECT 1 FROM withdrawals.persons p WHERE p.organisation_id = l.organisation_id
        AND p.external_id = l.external_id AND NOT p.active
        AND p.effective_at > now() - make_interval(hours => :hours)))
"""
_COUNT_POPULATION = text(_POPULATION)
# Jobs superseded since, and those cancelled before anything of them was decided, count no longer.
_RECOUNT_JOBS = text("""
WITH counted AS (
    SELECT date_trunc('minute', admitted_at) AS minute, sum(learners) AS learners FROM withdrawals.jobs
    WHERE organisation_id = :organisation_id AND admitted_at > now() - make_interval(hours => :hours, mins => 2)
        AND state <> 'superseded'
    GROUP BY 1
), dropped AS (
    DELETE FROM withdrawals.brake_volume
    WHERE organisation_id = :organisation_id AND minute < now() - interval '721 hours'
)
UPDATE withdrawals.brake_volume v
SET jobs = coalesce((SELECT c.learners FROM counted c WHERE c.minute = v.minute), 0)
WHERE v.organisation_id = :organisation_id AND v.minute > now() - make_interval(hours => :hours, mins => 1)
    AND v.jobs <> coalesce((SELECT c.learners FROM counted c WHERE c.minute = v.minute), 0)
""")
_RECOUNT_POPULATION = text(f"""
UPDATE withdrawals.organisation_settings SET population = ({_POPULATION}), counted_at = clock_timestamp()
WHERE organisation_id = :organisation_id RETURNING population
""")


def recount(connection: Connection, organisation_id: int, hours: int) -> int:
    """Count the window's jobs and the learners anew; the learners."""
    values = {"organisation_id": organisation_id, "hours": hours}
    connection.execute(_RECOUNT_JOBS, values)
    return int(connection.scalar(_RECOUNT_POPULATION, values) or 0)


def count_population(connection: Connection, organisation_id: int, hours: int) -> int:
    """Learners active, and those deactivated in the window, counted now; writes nothing."""
    values = {"organisation_id": organisation_id, "hours": hours}
    return int(connection.scalar(_COUNT_POPULATION, values) or 0)


_FORGET = text("""
WITH forgotten AS (
    UPDATE withdrawals.jobs j SET learners = NULL WHERE j.id = :job_id AND NOT EXISTS (
        SELECT 1 FROM withdrawals.chunks c WHERE c.job_id = j.id AND c.redrives IS NULL AND c.state <> 'cancelled')
    RETURNING organisation_id
)
UPDATE withdrawals.organisation_settings SET counted_at = NULL
WHERE organisation_id IN (SELECT s.organisation_id FROM withdrawals.organisation_settings s
    JOIN forgotten USING (organisation_id) FOR UPDATE OF s SKIP LOCKED)
""")


def forget(connection: Connection, job_id: int) -> None:
    """A job cancelled before anything of it was decided counts no longer.

    At once, unless an admission is just going on: a cancel does not wait for that, and within 30 seconds then.
    """
    connection.execute(_FORGET, {"job_id": job_id})


_HELD = text("SELECT count(*) FROM withdrawals.jobs WHERE organisation_id = :organisation_id AND state = 'held'")


def held(connection: Connection, organisation_id: int) -> int:
    """Jobs of an organisation that wait for a second person, whatever the cause."""
    return int(connection.scalar(_HELD, {"organisation_id": organisation_id}) or 0)
