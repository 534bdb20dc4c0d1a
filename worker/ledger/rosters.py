"""Full rosters as they are kept: their lines staged from a file, who planned and accepted them, and how they end.

What is found about their people is in `roster_findings.py`, how they are applied in `roster_steps.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, text

from schemas.rosters import Finding
from worker.database import driver
from worker.ledger.fragments import one_of
from worker.models import rosters
from worker.one_message import Step


@dataclass(frozen=True, slots=True)
class StoredRoster:
    """A roster as its row has it."""

    id: int
    organisation_id: int
    state: str
    as_of: datetime
    kind: str
    file_name: str | None
    sha256: str
    people: int
    active: int
    missing: str
    findings: dict[str, int]
    shrink_reason: str | None
    planned_by: str
    planned_at: datetime
    accepted_by: str | None
    accepted_at: datetime | None
    done_at: datetime | None
    job_id: int | None
    attempts: int
    """To apply it, that failed in a row."""
    failure: str | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewRoster:
    """A roster as it is planned."""

    as_of: datetime
    kind: str
    file_name: str | None
    sha256: str
    missing: str
    shrink_reason: str | None
    planned_by: str


@dataclass(frozen=True, slots=True)
class StagedPeople:
    """What was staged: distinct people, those of them who are active, and those of whom two lines differ."""

    people: int
    active: int
    differing: int


# A disk may be slow.
_LIFT_LIMITS = text("""
SELECT set_config('statement_timeout', :statement, true), set_config('idle_in_transaction_session_timeout', '0', true)
""")


def lift_limits(connection: Connection, *, statement: str = "0") -> None:
    """Let this transaction take as long as a large roster needs. `statement`: the longest that one may take."""
    connection.execute(_LIFT_LIMITS, {"statement": statement})


_STAGE = text("CREATE TEMP TABLE staged_people (line integer, external_id text, active boolean) ON COMMIT DROP")
_COUNT_STAGED = text("""
SELECT count(*) AS people, count(*) FILTER (WHERE active) AS active,
    count(*) FILTER (WHERE active <> other) AS differing
FROM (SELECT bool_and(active) AS active, bool_or(active) AS other FROM pg_temp.staged_people GROUP BY external_id) p
""")


def stage(connection: Connection, people: Iterable[tuple[int, str, bool]]) -> StagedPeople:
    """Stream a roster's lines (line, external id, active) into a table of this transaction."""
    lift_limits(connection)
    connection.execute(_STAGE)
    with driver(connection).cursor().copy("COPY pg_temp.staged_people FROM STDIN") as copy:
        for row in people:
            copy.write_row(row)
    connection.execute(text("ANALYZE pg_temp.staged_people"))
    return StagedPeople(**connection.execute(_COUNT_STAGED).mappings().one())


_DIFFERING = text("""
SELECT max(line) AS line FROM pg_temp.staged_people GROUP BY external_id
HAVING bool_and(active) <> bool_or(active) ORDER BY 1 LIMIT :most
""")


def list_differing(connection: Connection, most: int) -> list[int]:
    """The last lines of the first people whose lines differ."""
    return list(connection.scalars(_DIFFERING, {"most": most}))


_KEEP_LINES = text("""
INSERT INTO withdrawals.roster_lines (roster_id, organisation_id, external_id, line, active)
SELECT DISTINCT ON (external_id) :roster, :organisation, external_id, line, active FROM pg_temp.staged_people
ORDER BY external_id, line
""")


def insert_roster(connection: Connection, organisation_id: int, new: NewRoster, found: StagedPeople) -> StoredRoster:
    """A planned roster with the lines that were staged."""
    row = {
        **{name: getattr(new, name) for name in NewRoster.__slots__},
        "organisation_id": organisation_id,
        "people": found.people,
        "active": found.active,
    }
    made = connection.execute(rosters.insert().values(row).returning(*_ROSTER)).one()
    connection.execute(_KEEP_LINES, {"roster": made.id, "organisation": organisation_id})
    return StoredRoster(*made)


_ROSTER = tuple(rosters.c[name] for name in StoredRoster.__slots__)


def find(connection: Connection, organisation_id: int, roster_id: int, *, lock: bool = False) -> StoredRoster | None:
    """One roster of an organisation. `lock`: for who is about to change its state."""
    statement = select(*_ROSTER).where(rosters.c.organisation_id == organisation_id, rosters.c.id == roster_id)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    return StoredRoster(*row) if row else None


def list_rosters(
    connection: Connection, organisation_id: int, *, before: int | None = None, limit: int = 50
) -> list[StoredRoster]:
    """Rosters of an organisation, newest first."""
    statement = select(*_ROSTER).where(rosters.c.organisation_id == organisation_id)
    if before is not None:
        statement = statement.where(rosters.c.id < before)
    return [StoredRoster(*row) for row in connection.execute(statement.order_by(rosters.c.id.desc()).limit(limit))]


_ACCEPTED = one_of(rosters.c.state, ["accepted", "done"])


def find_last(connection: Connection, organisation_id: int) -> StoredRoster | None:
    """The roster that was accepted last."""
    statement = select(*_ROSTER).where(rosters.c.organisation_id == organisation_id, _ACCEPTED)
    row = connection.execute(statement.order_by(rosters.c.as_of.desc(), rosters.c.id.desc()).limit(1)).one_or_none()
    return StoredRoster(*row) if row else None


def find_same(connection: Connection, organisation_id: int, *, sha256: str, as_of: datetime) -> StoredRoster | None:
    """The accepted roster with the same people, states and time."""
    same = (rosters.c.sha256 == sha256, rosters.c.as_of == as_of, _ACCEPTED)
    row = connection.execute(select(*_ROSTER).where(rosters.c.organisation_id == organisation_id, *same)).one_or_none()
    return StoredRoster(*row) if row else None


_COVERAGE = text("""
SELECT count(*) AS known, count(*) FILTER (WHERE EXISTS (SELECT FROM withdrawals.roster_lines t
    WHERE t.roster_id = :roster AND t.external_id = l.external_id AND t.line IS NOT NULL OFFSET 0)) AS found
FROM lms.learners l
WHERE l.organisation_id = :organisation AND l.active
""")


def coverage(connection: Connection, organisation_id: int, roster_id: int) -> tuple[int, int]:
    """The active learners of the platform, and those of them who stand in the roster."""
    row = connection.execute(_COVERAGE, {"organisation": organisation_id, "roster": roster_id}).one()
    return row.known, row.found


_DROP = text("""
DELETE FROM withdrawals.roster_lines t WHERE t.roster_id = :roster AND (
    t.finding = :unknown OR (t.line IS NULL AND NOT :missing)
    OR NOT (EXISTS (SELECT FROM lms.learners l
            WHERE l.organisation_id = :organisation AND l.external_id = t.external_id)
        OR EXISTS (SELECT FROM withdrawals.persons p
            WHERE p.organisation_id = :organisation AND p.external_id = t.external_id)))
""")


def drop_lines(connection: Connection, roster: StoredRoster) -> None:
    """Delete what a locked planned roster need not apply: lines of people whom nobody knows, and reports."""
    values = {
        "roster": roster.id,
        "organisation": roster.organisation_id,
        "unknown": str(Finding.UNKNOWN_TO_ROSTER),
        "missing": roster.missing == "withdraw",
    }
    connection.execute(_DROP, values)


def accept(connection: Connection, roster: StoredRoster, *, actor: str) -> None:
    """Let a locked roster be applied: a planned one after `drop_lines`, or one that has failed."""
    now = func.clock_timestamp()
    changed = {"state": "accepted", "accepted_by": actor, "accepted_at": now, "run_after": now, **_NO_FAILURE}
    connection.execute(rosters.update().where(rosters.c.id == roster.id).values(changed))


_IS_ACCEPTED = one_of(rosters.c.state, ["accepted"])
_LIST_DUE = select(rosters.c.id).where(_IS_ACCEPTED, rosters.c.run_after <= func.clock_timestamp())
_LOCK_DUE = select(*_ROSTER).where(_IS_ACCEPTED, rosters.c.run_after <= func.clock_timestamp())


ANY_DUE = Step(
    "rosters_due",
    "SELECT EXISTS (SELECT FROM withdrawals.rosters WHERE state = 'accepted' AND run_after <= clock_timestamp())",
)
"""Whether `list_due` finds any."""


def list_due(connection: Connection) -> list[int]:
    """Accepted rosters of all organisations that are to be applied now, the one that has waited longest first."""
    return list(connection.scalars(_LIST_DUE.order_by(rosters.c.run_after, rosters.c.id)))


def lock_due(connection: Connection, roster_id: int) -> StoredRoster | None:
    """A roster that is to be applied now, locked; None when it is not any more, or somebody else is applying it."""
    locked = _LOCK_DUE.where(rosters.c.id == roster_id).with_for_update(skip_locked=True)
    row = connection.execute(locked).one_or_none()
    return StoredRoster(*row) if row else None


_NO_FAILURE = {"attempts": 0, "failure": None, "failed_at": None}


def clear_failure(connection: Connection, roster_id: int) -> None:
    """A locked roster gets on again."""
    connection.execute(rosters.update().where(rosters.c.id == roster_id).values(_NO_FAILURE))


_RECORD_FAILURE = text("""
UPDATE withdrawals.rosters SET attempts = attempts + 1, failure = :failure, failed_at = clock_timestamp(),
    state = CASE WHEN attempts + 1 < :most THEN state ELSE 'failed' END,
    run_after = clock_timestamp() + least(:longest, :first * power(2, attempts)) * interval '1 second'
WHERE id = :roster AND state = 'accepted' RETURNING organisation_id, attempts, state = 'failed' AS is_last
""")


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt to apply a roster that failed."""

    organisation_id: int
    attempts: int
    """That failed in a row."""
    is_last: bool
    """Whether it is not tried again."""


def record_failure(
    connection: Connection, roster_id: int, failure: str, *, most: int, first: float, longest: float
) -> Failure | None:
    """Count a failed attempt, and try again later, or no more after the `most`; None when it ended meanwhile.

    `first`, `longest`: seconds until the next attempt, which double from the first to the longest.
    """
    values = {"roster": roster_id, "failure": failure, "most": most, "first": first, "longest": longest}
    row = connection.execute(_RECORD_FAILURE, values).one_or_none()
    return Failure(*row) if row else None


def finish(connection: Connection, roster_id: int, job_id: int | None) -> None:
    """End a locked roster that was applied."""
    done = {"state": "done", "done_at": func.clock_timestamp(), "job_id": job_id, **_NO_FAILURE}
    connection.execute(rosters.update().where(rosters.c.id == roster_id).values(done))


SLICE = 10_000
"""Lines that one transaction forgets."""
_OLD = """
    SELECT id FROM withdrawals.rosters WHERE state = 'planned' AND planned_at < now() - CAST(:keep AS interval)
"""
ANY_OLD = Step("rosters_old", f"SELECT EXISTS ({_OLD})")
"""Whether `expire` finds any."""
# A line that an erasure renames meanwhile is left for the next slice.
_EXPIRE = text(f"""
WITH old AS MATERIALIZED (
    {_OLD} ORDER BY planned_at LIMIT 1 FOR UPDATE SKIP LOCKED
), slice AS MATERIALIZED (
    SELECT external_id FROM withdrawals.roster_lines WHERE roster_id = (SELECT id FROM old) LIMIT :most
), gone AS (
    DELETE FROM withdrawals.roster_lines
    WHERE roster_id = (SELECT id FROM old) AND external_id = ANY(ARRAY(SELECT external_id FROM slice)) RETURNING 1
), counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM slice) AS found, (SELECT count(*) FROM gone) AS gone
), expired AS (
    UPDATE withdrawals.rosters SET state = 'expired'
    WHERE id = (SELECT id FROM old) AND (SELECT found < :most AND gone = found FROM counted) RETURNING 1
)
SELECT found, (SELECT count(*) FROM expired) AS expired FROM counted
""")


def expire(connection: Connection, *, keep: timedelta) -> tuple[int, int]:
    """Forget a slice of the lines of a roster that was planned so long ago and not accepted, and then the roster.

    How many lines, and how many rosters have none any more.
    """
    row = connection.execute(_EXPIRE, {"keep": keep, "most": SLICE}).one()
    return row.found, row.expired
