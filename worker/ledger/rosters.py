"""Full rosters: their lines staged, compared in sets with the platform and the events, and what becomes of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select, text
from sqlalchemy.orm import aliased

from schemas.rosters import Finding
from worker.database import driver
from worker.ledger.fragments import LIVE, one_of, sql_list
from worker.models import dead_letters, enrolments, learners, roster_lines, rosters
from worker.rules import ENDED, ROSTER, STANDING, WITHDRAWN

SAMPLES = 5
"""People shown for each finding."""

WITHDRAW = "withdraw"
"""The result of a line whose person is to be withdrawn."""


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


_NO_LIMITS = (
    text("SET LOCAL statement_timeout = 0"),
    text("SET LOCAL idle_in_transaction_session_timeout = 0"),  # a pipe may be slow, a directory too
)
_STAGE = text("CREATE TEMP TABLE staged_people (line integer, external_id text, active boolean) ON COMMIT DROP")
_COUNT_STAGED = text("""
SELECT count(*) AS people, count(*) FILTER (WHERE active) AS active,
    count(*) FILTER (WHERE active <> other) AS differing
FROM (SELECT bool_and(active) AS active, bool_or(active) AS other FROM pg_temp.staged_people GROUP BY external_id) p
""")


def stage(connection: Connection, people: Iterable[tuple[int, str, bool]]) -> StagedPeople:
    """Stream a roster's lines (line, external id, active) into a table of this transaction."""
    for statement in _NO_LIMITS:
        connection.execute(statement)
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
SELECT count(*) AS known, count(t.external_id) AS found FROM lms.learners l
LEFT JOIN withdrawals.roster_lines t ON t.roster_id = :roster AND t.external_id = l.external_id AND t.line IS NOT NULL
WHERE l.organisation_id = :organisation AND l.active
""")


def coverage(connection: Connection, organisation_id: int, roster_id: int) -> tuple[int, int]:
    """The active learners of the platform, and those of them who stand in the roster."""
    row = connection.execute(_COVERAGE, {"organisation": organisation_id, "roster": roster_id}).one()
    return row.known, row.found


# What a job over a person would decide: what has a live dead letter is before support already.
_OPEN = f"""e.status NOT IN ({sql_list([WITHDRAWN, *ENDED])}) AND NOT EXISTS (SELECT FROM withdrawals.dead_letters d
    WHERE d.organisation_id = e.organisation_id AND d.enrolment_id = e.id AND d.state IN ({sql_list(LIVE)})
        AND d.code <> 'invalid_event')"""
_HOLDS = f"""EXISTS (SELECT FROM lms.enrolments e WHERE e.learner_id = l.id AND e.organisation_id = :organisation
    AND {_OPEN} {{since}})"""
_NEWER = """EXISTS (SELECT FROM withdrawals.person_events v WHERE v.organisation_id = :organisation
    AND v.external_id = {person} AND {newer})"""
_RETURNED = _NEWER.format(person="{person}", newer="v.occurred_at >= :as_of AND v.type <> 'user.deactivated'")
_LEFT_LATER = _NEWER.format(person="{person}", newer="v.occurred_at > :as_of AND v.type = 'user.deactivated'")
_ANNOUNCED = _NEWER.format(
    person="{person}", newer=f"v.source <> '{ROSTER}' AND v.type = 'user.deactivated' AND v.effective_at > :as_of"
)
_UNDER_WAY = f"""(EXISTS (SELECT FROM withdrawals.jobs j WHERE j.organisation_id = :organisation
        AND j.learner_external_id = {{person}} AND j.source = 'hr' AND j.state IN ({sql_list(STANDING)}))
    OR EXISTS (SELECT FROM withdrawals.roster_lines o JOIN withdrawals.rosters r ON r.id = o.roster_id
        JOIN withdrawals.jobs j ON j.id = r.job_id AND j.state IN ({sql_list(STANDING)})
        WHERE o.organisation_id = :organisation AND o.external_id = {{person}} AND o.epoch = p.epoch))"""

_FORGET_MISSING = text("DELETE FROM withdrawals.roster_lines WHERE roster_id = :roster AND line IS NULL")
# Who was enrolled after the roster's time may be newer than the roster.
_ADD_MISSING = text(f"""
INSERT INTO withdrawals.roster_lines (roster_id, organisation_id, external_id, active, finding)
SELECT :roster, :organisation, l.external_id, false, CASE
    WHEN p.active AND {_RETURNED.format(person="l.external_id")} THEN '{Finding.NEWER_EVENT}'
    WHEN NOT h.holds THEN '{Finding.UNKNOWN_TO_ROSTER}'
    WHEN NOT p.active AND {_UNDER_WAY.format(person="l.external_id")} THEN '{Finding.UNDER_WAY}'
    ELSE '{Finding.MISSING}' END
FROM lms.learners l
CROSS JOIN LATERAL (SELECT {_HOLDS.format(since="AND e.enrolled_at <= :as_of")} AS holds) h
LEFT JOIN withdrawals.persons p ON p.organisation_id = :organisation AND p.external_id = l.external_id
WHERE l.organisation_id = :organisation AND (l.active OR h.holds) AND NOT EXISTS (
    SELECT FROM withdrawals.roster_lines t WHERE t.roster_id = :roster AND t.external_id = l.external_id)
""")
_FIND = text(f"""
UPDATE withdrawals.roster_lines t SET finding = f.finding FROM (
    SELECT t.external_id, CASE
        WHEN NOT t.active AND l.id IS NULL THEN NULL
        WHEN l.id IS NULL AND p.external_id IS NULL THEN '{Finding.UNKNOWN_TO_PLATFORM}'
        WHEN NOT t.active AND coalesce(p.active, true) AND {_RETURNED.format(person="t.external_id")}
            THEN '{Finding.NEWER_EVENT}'
        WHEN NOT t.active THEN CASE WHEN {_HOLDS.format(since="")} THEN CASE
            WHEN NOT p.active AND {_UNDER_WAY.format(person="t.external_id")} THEN '{Finding.UNDER_WAY}'
            ELSE '{Finding.INACTIVE}' END END
        WHEN NOT p.active AND {_LEFT_LATER.format(person="t.external_id")} THEN '{Finding.NEWER_EVENT}'
        WHEN NOT p.active AND {_ANNOUNCED.format(person="t.external_id")} THEN '{Finding.ANNOUNCED}'
        WHEN NOT p.active OR NOT l.active THEN '{Finding.ACTIVE_AGAIN}'
        WHEN l.id IS NULL THEN '{Finding.UNKNOWN_TO_PLATFORM}' END AS finding
    FROM withdrawals.roster_lines t
    LEFT JOIN lms.learners l ON l.organisation_id = :organisation AND l.external_id = t.external_id
    LEFT JOIN withdrawals.persons p ON p.organisation_id = :organisation AND p.external_id = t.external_id
    WHERE t.roster_id = :roster AND t.line IS NOT NULL) f
WHERE t.roster_id = :roster AND t.external_id = f.external_id AND t.finding IS DISTINCT FROM f.finding
""")
_COUNT = text("""
SELECT finding, count(*) FROM withdrawals.roster_lines WHERE roster_id = :roster AND finding IS NOT NULL GROUP BY 1
""")


def compare(connection: Connection, roster: StoredRoster) -> dict[str, int]:
    """Compare a roster that is not applied yet with the platform and the events; the number of people by finding."""
    for statement in _NO_LIMITS:
        connection.execute(statement)
    values = {"roster": roster.id, "organisation": roster.organisation_id, "as_of": roster.as_of}
    for step in (_FORGET_MISSING, _ADD_MISSING, _FIND):
        connection.execute(step, values)
    counts = {row[0]: row[1] for row in connection.execute(_COUNT, values)}
    connection.execute(rosters.update().where(rosters.c.id == roster.id).values(findings=counts))
    return counts


def list_samples(connection: Connection, roster_id: int) -> dict[str, list[tuple[int | None, str]]]:
    """The first people of each finding: line and external id."""
    place = func.row_number().over(
        partition_by=roster_lines.c.finding, order_by=(roster_lines.c.line, roster_lines.c.external_id)
    )
    ranked = (
        select(roster_lines.c.finding, roster_lines.c.line, roster_lines.c.external_id, place.label("place"))
        .where(roster_lines.c.roster_id == roster_id, roster_lines.c.finding.is_not(None))
        .subquery()
    )
    found: dict[str, list[tuple[int | None, str]]] = {}
    for row in connection.execute(select(ranked).where(ranked.c.place <= SAMPLES).order_by(ranked.c.place)):
        found.setdefault(row.finding, []).append((row.line, row.external_id))
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A line with what was found and what became of it."""

    line: int | None
    external_id: str
    active: bool
    finding: str | None
    result: str | None


def stream_lines(connection: Connection, roster_id: int) -> Iterator[Line]:
    """Every line that is kept of a roster, in their order, then the people who are not in it; a few at a time."""
    statement = (
        select(*(roster_lines.c[name] for name in Line.__slots__))
        .where(roster_lines.c.roster_id == roster_id)
        .order_by(roster_lines.c.line.nulls_last(), roster_lines.c.external_id)
    )
    for row in connection.execute(statement, execution_options={"yield_per": 1000}):
        yield Line(*row)


def withdrawn_enrolments(roster_id: int, organisation_id: int) -> Select[int, int | None]:
    """The enrolments (`id`, `line`) of the people of a roster who left: by what was decided, or else was found."""
    letters = aliased(dead_letters, name="d")
    has_letter = (
        select(letters.c.id)
        .where(
            letters.c.organisation_id == enrolments.c.organisation_id,
            letters.c.enrolment_id == enrolments.c.id,
            one_of(letters.c.state, LIVE),
            letters.c.code != "invalid_event",
        )
        .exists()
    )
    left = one_of(func.coalesce(roster_lines.c.result, roster_lines.c.finding), [WITHDRAW, "inactive", "missing"])
    return (
        select(enrolments.c.id, roster_lines.c.line)
        .select_from(roster_lines)
        .join(
            learners,
            and_(learners.c.organisation_id == organisation_id, learners.c.external_id == roster_lines.c.external_id),
        )
        .join(
            enrolments,
            and_(enrolments.c.learner_id == learners.c.id, enrolments.c.organisation_id == organisation_id),
        )
        .where(roster_lines.c.roster_id == roster_id, left, ~has_letter)
        .where(enrolments.c.status.not_in([WITHDRAWN, *ENDED]))
    )


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
    """Let a locked planned roster be applied, after `drop_lines`."""
    changed = {"state": "accepted", "accepted_by": actor, "accepted_at": func.clock_timestamp()}
    connection.execute(rosters.update().where(rosters.c.id == roster.id).values(changed))


_LOCK_NEXT = (
    select(*_ROSTER)
    .where(one_of(rosters.c.state, ["accepted"]))
    .order_by(rosters.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)


def lock_next(connection: Connection) -> StoredRoster | None:
    """An accepted roster of any organisation, locked, that nobody else is applying."""
    row = connection.execute(_LOCK_NEXT).one_or_none()
    return StoredRoster(*row) if row else None


_UNDECIDED = (
    select(roster_lines.c.external_id, roster_lines.c.line, roster_lines.c.active)
    .where(roster_lines.c.result.is_(None))
    .order_by(roster_lines.c.external_id)
)


def list_undecided(
    connection: Connection, roster_id: int, *, after: str, most: int
) -> list[tuple[str, int | None, bool]]:
    """Lines of a locked roster that are not decided, by external id from the one after `after`."""
    here = (roster_lines.c.roster_id == roster_id, roster_lines.c.external_id > after)
    return [(row[0], row[1], row[2]) for row in connection.execute(_UNDECIDED.where(*here).limit(most))]


_RECORD_ACTIVE = text(f"""
INSERT INTO withdrawals.person_events AS known (organisation_id, external_id, source, type, occurred_at, effective_at)
SELECT :organisation, id, '{ROSTER}', 'user.reactivated', :as_of, :as_of
FROM unnest(CAST(:ids AS text[])) id ORDER BY id
ON CONFLICT (organisation_id, external_id, source) DO UPDATE SET type = excluded.type, sequence = NULL,
    occurred_at = excluded.occurred_at, effective_at = excluded.effective_at
    WHERE known.occurred_at < excluded.occurred_at
""")
_KNOWN_FROM_NOW_ON = text("""
UPDATE withdrawals.persons SET epoch = 1
WHERE organisation_id = :organisation AND external_id = ANY(CAST(:ids AS text[])) AND epoch = 0
""")


def record_active(connection: Connection, organisation_id: int, external_ids: Sequence[str], as_of: datetime) -> None:
    """Record that a roster has locked persons as active who were: this changes nothing but what older events can do."""
    values = {"organisation": organisation_id, "ids": list(external_ids), "as_of": as_of}
    connection.execute(_RECORD_ACTIVE, values)
    connection.execute(_KNOWN_FROM_NOW_ON, values)


_FORGET_LINES = text("DELETE FROM withdrawals.roster_lines WHERE roster_id = :roster AND external_id = ANY(:ids)")
_SETTLE = text("""
UPDATE withdrawals.roster_lines t SET result = g.result, epoch = g.epoch
FROM unnest(CAST(:ids AS text[]), CAST(:results AS text[]), CAST(:epochs AS bigint[])) AS g(external_id, result, epoch)
WHERE t.roster_id = :roster AND t.external_id = g.external_id
""")


def settle(
    connection: Connection, roster_id: int, results: Mapping[str, tuple[str, int | None]], unchanged: Sequence[str]
) -> None:
    """Write what became of lines, with the epoch of those to be withdrawn; forget those that changed nothing."""
    if results:
        values: dict[str, Any] = {"roster": roster_id, "ids": list(results)}
        values["results"], values["epochs"] = (list(one) for one in zip(*results.values(), strict=True))
        connection.execute(_SETTLE, values)
    if unchanged:
        connection.execute(_FORGET_LINES, {"roster": roster_id, "ids": list(unchanged)})


def finish(connection: Connection, roster_id: int, job_id: int | None) -> None:
    """End a locked roster that was applied."""
    done = {"state": "done", "done_at": func.clock_timestamp(), "job_id": job_id}
    connection.execute(rosters.update().where(rosters.c.id == roster_id).values(done))


_STAGE_JOB = "CREATE TEMP TABLE staged (line integer, enrolment_id bigint NOT NULL) ON COMMIT DROP"
_STAGE_LEFT = text(f"""
INSERT INTO pg_temp.staged SELECT t.line, e.id
FROM withdrawals.roster_lines t
JOIN withdrawals.persons p ON p.organisation_id = :organisation AND p.external_id = t.external_id AND p.epoch = t.epoch
JOIN lms.learners l ON l.organisation_id = :organisation AND l.external_id = t.external_id
JOIN lms.enrolments e ON e.learner_id = l.id AND e.organisation_id = :organisation
WHERE t.roster_id = :roster AND t.result = '{WITHDRAW}' AND {_OPEN}
""")


def stage_left(connection: Connection, organisation_id: int, roster_id: int) -> int:
    """Stage the enrolments of people who left, of whom nothing newer is known, with their lines; how many."""
    for statement in _NO_LIMITS:
        connection.execute(statement)
    connection.execute(text(_STAGE_JOB))
    return connection.execute(_STAGE_LEFT, {"organisation": organisation_id, "roster": roster_id}).rowcount


_EXPIRE = text("""
WITH old AS (
    SELECT id FROM withdrawals.rosters WHERE state = 'planned' AND planned_at < now() - CAST(:keep AS interval)
    ORDER BY planned_at LIMIT 1 FOR UPDATE SKIP LOCKED
), gone AS (DELETE FROM withdrawals.roster_lines WHERE roster_id IN (SELECT id FROM old))
UPDATE withdrawals.rosters SET state = 'expired' WHERE id IN (SELECT id FROM old)
""")


def expire(connection: Connection, *, keep: timedelta) -> int:
    """Forget the lines of a roster that was planned so long ago and not accepted; how many rosters."""
    for statement in _NO_LIMITS:
        connection.execute(statement)
    return connection.execute(_EXPIRE, {"keep": keep}).rowcount
