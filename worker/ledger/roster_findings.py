"""What a full roster finds: compared in sets with the platform and the events, and shown with examples."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Select, and_, func, select, text

from schemas.rosters import Finding
from worker.ledger.fragments import LIVE, one_of, sql_list
from worker.ledger.rosters import StoredRoster, lift_limits
from worker.models import dead_letters, enrolments, learners, roster_lines, rosters
from worker.rules import ENDED, ROSTER, STANDING, WITHDRAWN

SAMPLES = 5
"""People shown for each finding."""

WITHDRAW = "withdraw"
"""The result of a line whose person is to be withdrawn."""

# What has a live dead letter is before support already.
OPEN = f"""e.status NOT IN ({sql_list([WITHDRAWN, *ENDED])}) AND NOT EXISTS (SELECT FROM withdrawals.dead_letters d
    WHERE d.organisation_id = e.organisation_id AND d.enrolment_id = e.id AND d.state IN ({sql_list(LIVE)})
        AND d.code <> 'invalid_event')"""
"""Of an enrolment `e`: whether a job over its person would decide it."""
_HOLDS = f"""EXISTS (SELECT FROM lms.enrolments e WHERE e.learner_id = l.id AND e.organisation_id = :organisation
    AND {OPEN} {{since}})"""
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
    SELECT FROM withdrawals.roster_lines t WHERE t.roster_id = :roster AND t.external_id = l.external_id OFFSET 0)
""")
# The planner knows nothing of a roster that has just come and expects one line. By their names lines would be compared
# each with each; by their place they are not.
_FIND = text(f"""
UPDATE withdrawals.roster_lines t SET finding = f.finding FROM (
    SELECT t.ctid AS place, CASE
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
WHERE t.roster_id = :roster AND t.ctid = f.place AND t.finding IS DISTINCT FROM f.finding
""")
_COUNT = text("""
SELECT finding, count(*) FROM withdrawals.roster_lines WHERE roster_id = :roster AND finding IS NOT NULL GROUP BY 1
""")


def compare(connection: Connection, roster: StoredRoster) -> dict[str, int]:
    """Compare a roster that is not applied yet with the platform and the events; the number of people by finding."""
    lift_limits(connection)
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
    letters = dead_letters.alias("d")
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
