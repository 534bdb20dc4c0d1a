"""Counts of dead letters, by code and by cause. Each stops at a limit, so that it costs the same however many are open.

Letters are read from indexes that have them by code and age, by cause, by assignee, and without one (migration 0033b).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Interval,
    Select,
    Text,
    bindparam,
    column,
    func,
    literal,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.sql.selectable import LateralFromClause

from schemas.catalogue import LetterCode, LetterState
from schemas.dead_letters import LetterFilter
from worker.ledger.fragments import CLOSED, LIVE, one_of, plan_by_index, plan_by_order, sql_list
from worker.ledger.letter_filter import IS_LIVE, Targets, conditions, has_ended, is_overdue
from worker.models import dead_letters

_ORGANISATION = bindparam("organisation_id", type_=BigInteger)
_MOST = bindparam("most", type_=BigInteger)
_CODES, _TARGETS = bindparam("codes", type_=ARRAY(Text)), bindparam("targets", type_=ARRAY(Interval))
_AGE = (dead_letters.c.opened_at, dead_letters.c.id)


def count_overdue(
    connection: Connection, organisation_id: int, wanted: LetterFilter, targets: Targets, *, most: int
) -> int:
    """How many of the letters that match are overdue, counted up to `most`."""
    plan_by_index(connection)
    where = conditions(organisation_id, wanted)
    late = [
        select(dead_letters.c.id).where(*where, is_overdue({code: target})).limit(most).subquery().select()
        for code, target in targets.items()
        if wanted.code in (None, code)
    ]
    found = union_all(*late).subquery()
    return connection.scalar(select(func.count()).select_from(select(found).limit(most).subquery())) or 0


def count_letters(connection: Connection, organisation_id: int, wanted: LetterFilter, *, live: bool, most: int) -> int:
    """How many letters match (`live`: of those that are open or redriven), counted up to `most`."""
    plan_by_index(connection)
    found = select(dead_letters.c.id).where(*conditions(organisation_id, wanted)).limit(most)
    if live:
        found = found.where(IS_LIVE)
    return connection.scalar(select(func.count()).select_from(found.subquery())) or 0


def count_alike(connection: Connection, organisation_id: int, fingerprint: str, *, most: int) -> int:
    """How many live letters share a fingerprint, counted up to `most`."""
    return count_letters(connection, organisation_id, LetterFilter(fingerprint=fingerprint), live=True, most=most)


# A loose scan of the index: from each name to the next, past all letters of the same one.
_ASSIGNEES = text(f"""
WITH RECURSIVE names AS (
    SELECT min(d.assignee) AS name FROM withdrawals.dead_letters d
    WHERE d.organisation_id = :organisation_id AND d.state IN ({sql_list(LIVE)}) AND d.assignee IS NOT NULL
    UNION ALL
    SELECT (SELECT d.assignee FROM withdrawals.dead_letters d
        WHERE d.organisation_id = :organisation_id AND d.state IN ({sql_list(LIVE)}) AND d.assignee > names.name
        ORDER BY d.assignee LIMIT 1)
    FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL LIMIT :most
""")


def list_assignees(connection: Connection, organisation_id: int, *, most: int) -> list[str]:
    """Who looks after live letters, by name."""
    plan_by_index(connection)
    return list(connection.scalars(_ASSIGNEES, {"organisation_id": organisation_id, "most": most}))


@dataclass(frozen=True, slots=True)
class CodeCounts:
    """The live letters of one code; `day`, `week`, `month` and `older` count them by when they were opened."""

    code: str
    overdue: int = 0
    unassigned: int = 0
    oldest: datetime | None = None
    day: int = 0
    week: int = 0
    month: int = 0
    older: int = 0


def _few(of: FromClause, *which: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """The oldest live letters of the code `of.code`, up to the limit."""
    live = (dead_letters.c.organisation_id == _ORGANISATION, dead_letters.c.code == of.c.code, IS_LIVE, *which)
    found = select(dead_letters.c.id, dead_letters.c.evidence).where(*live)
    return found.order_by(*_AGE).limit(_MOST).correlate(of)


def _count(few: Select[*tuple[Any, ...]], name: str) -> ColumnElement[Any]:
    return select(func.count()).select_from(few.subquery()).scalar_subquery().label(name)


def _opened(before: int | None, since: int | None) -> list[ColumnElement[bool]]:
    """Opened so many days ago: longer than `before`, not longer than `since`."""
    day, opened_at = timedelta(days=1), dead_letters.c.opened_at
    longer = [] if before is None else [opened_at < func.now() - literal(before * day, Interval)]
    shorter = [] if since is None else [opened_at >= func.now() - literal(since * day, Interval)]
    return longer + shorter


def _select_code_counts() -> Select[*tuple[Any, ...]]:
    given = func.unnest(_CODES, _TARGETS).table_valued(column("code", Text), column("target", Interval))
    of = given.render_derived("of")
    late = _few(of, dead_letters.c.opened_at < func.now() - of.c.target).subquery("late")
    # Of those that wait for the end of a protection, the ones that have waited longest are looked at.
    is_late = or_(
        of.c.code != literal(LetterCode.PROTECTED.value), has_ended(late.c.evidence, func.now() - of.c.target)
    )
    oldest = select(dead_letters.c.opened_at).where(
        dead_letters.c.organisation_id == _ORGANISATION, dead_letters.c.code == of.c.code, IS_LIVE
    )
    return select(
        of.c.code,
        select(func.count().filter(is_late)).select_from(late).correlate(of).scalar_subquery().label("overdue"),
        _count(_few(of, dead_letters.c.assignee.is_(None)), "unassigned"),
        oldest.order_by(*_AGE).limit(1).correlate(of).scalar_subquery().label("oldest"),
        _count(_few(of, *_opened(None, 1)), "day"),
        _count(_few(of, *_opened(1, 7)), "week"),
        _count(_few(of, *_opened(7, 30)), "month"),
        _count(_few(of, *_opened(30, None)), "older"),
    ).select_from(of)


_CODE_COUNTS = _select_code_counts()


def count_by_code(connection: Connection, organisation_id: int, targets: Targets, *, most: int) -> list[CodeCounts]:
    """The live letters of each code, each number counted up to `most`."""
    plan_by_order(connection)
    values = {"codes": list(targets), "targets": list(targets.values()), "organisation_id": organisation_id}
    return [CodeCounts(**row) for row in connection.execute(_CODE_COUNTS, {**values, "most": most}).mappings()]


@dataclass(frozen=True, slots=True)
class Cause:
    """Letters that share code and fingerprint."""

    code: str
    fingerprint: str
    count: int
    states: dict[str, int]
    overdue: int
    unassigned: int
    oldest: datetime
    newest: datetime
    sample: int


@dataclass(frozen=True, slots=True)
class Causes:
    """Causes, those with most live letters first."""

    items: list[Cause]
    found: int
    """All causes, listed or not; one more than `MOST_CAUSES` stands for more."""
    counted_to: int
    """Live letters of a cause, and closed ones, are counted up to one more than this."""
    letters: int
    """Letters of all causes, listed or not."""
    at_least: bool
    """Whether there are more than `letters`."""


MOST_CAUSES = 1000
"""Causes whose letters are counted."""
_LETTERS_OF_CAUSES = 50_000
"""Letters that are counted in all, unless the smallest share of each cause is more."""
_SHARES = (10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""What each cause is counted to: the largest share that all of them can have."""

# A loose scan of the indexes: from each cause to the next, past all letters of the same one.
_LIST_CAUSES = """
WITH RECURSIVE causes AS (
    (SELECT d.code, d.fingerprint FROM withdrawals.dead_letters d
    WHERE d.organisation_id = :organisation_id AND d.state IN ({states}){of_code}
    ORDER BY d.code, d.fingerprint LIMIT 1)
    UNION ALL
    SELECT following.code, following.fingerprint FROM causes CROSS JOIN LATERAL (
        SELECT d.code, d.fingerprint FROM withdrawals.dead_letters d
        WHERE d.organisation_id = :organisation_id AND d.state IN ({states}){of_code}
            AND (d.code, d.fingerprint) > (causes.code, causes.fingerprint)
        ORDER BY d.code, d.fingerprint LIMIT 1) following
)
SELECT code, fingerprint FROM causes LIMIT :most"""


def group_letters(
    connection: Connection, organisation_id: int, wanted: LetterFilter, targets: Targets, *, limit: int
) -> Causes:
    """Letters that match by code and fingerprint, those with most live ones first."""
    plan_by_order(connection)
    causes = _list_causes(connection, organisation_id, wanted)
    counted_to = next((one for one in _SHARES if one * len(causes) <= _LETTERS_OF_CAUSES), _SHARES[-1])
    statement = _count_causes(organisation_id, wanted, targets, causes, counted_to + 1)
    found = sorted((_cause(row) for row in connection.execute(statement).mappings()), key=_by_live_letters)
    return Causes(
        found[:limit],
        len(found),
        counted_to,
        sum(min(cause.count, counted_to) for cause in found),
        len(causes) > MOST_CAUSES or any(cause.count > counted_to for cause in found),
    )


def _list_causes(connection: Connection, organisation_id: int, wanted: LetterFilter) -> list[tuple[str, str]]:
    """Code and fingerprint of the letters that can match, up to one more than `MOST_CAUSES`."""
    if wanted.fingerprint is not None:
        codes = [wanted.code] if wanted.code is not None else list(LetterCode)
        return [(code.value, wanted.fingerprint) for code in codes]
    found: set[tuple[str, str]] = set()
    values: dict[str, Any] = {"organisation_id": organisation_id, "most": MOST_CAUSES + 1}
    of_code = "" if wanted.code is None else " AND d.code = :code"
    if wanted.code is not None:
        values["code"] = wanted.code.value
    for states in (LIVE, CLOSED):
        if wanted.state is None or wanted.state in states:
            statement = text(_LIST_CAUSES.format(states=sql_list(states), of_code=of_code))
            found |= {(row.code, row.fingerprint) for row in connection.execute(statement, values)}
    return sorted(found)[: MOST_CAUSES + 1]


def _count_causes(
    organisation_id: int, wanted: LetterFilter, targets: Targets, causes: Sequence[tuple[str, str]], most: int
) -> Select[*tuple[Any, ...]]:
    codes, fingerprints = ([cause[n] for cause in causes] for n in (0, 1))
    of = (
        func.unnest(literal(codes, ARRAY(Text)), literal(fingerprints, ARRAY(Text)))
        .table_valued(column("code", Text), column("fingerprint", Text))
        .render_derived("of")
    )
    same = (dead_letters.c.code == of.c.code, dead_letters.c.fingerprint == of.c.fingerprint)
    letters = select(
        dead_letters.c.id,
        dead_letters.c.state,
        dead_letters.c.opened_at,
        dead_letters.c.assignee,
        is_overdue(targets).label("overdue"),
    ).where(*conditions(organisation_id, wanted), *same)
    live, closed = letters.where(IS_LIVE), letters.where(one_of(dead_letters.c.state, CLOSED))
    newest_first = [part.desc() for part in _AGE]
    by_id = dead_letters.c.id
    of_live = _totals(live.order_by(*_AGE).limit(most), of, "of_live")
    of_closed = _totals(closed.order_by(by_id.desc()).limit(most), of, "of_closed")
    first, last = _one(live.order_by(*_AGE), of, "first"), _one(live.order_by(*newest_first), of, "last")
    first_closed = _one(closed.order_by(by_id), of, "first_closed")
    last_closed = _one(closed.order_by(by_id.desc()), of, "last_closed")
    lives, ends = of_live.c, of_closed.c
    statement = select(
        of.c.code,
        of.c.fingerprint,
        *(getattr(lives if state in LIVE else ends, state).label(state) for state in LetterState),
        lives.overdue,
        lives.unassigned,
        func.coalesce(first.c.opened_at, first_closed.c.opened_at).label("oldest"),
        func.greatest(last.c.opened_at, last_closed.c.opened_at).label("newest"),
        func.coalesce(first.c.id, first_closed.c.id).label("sample"),
    ).select_from(of.join(of_live, true()).join(of_closed, true()))
    for one in (first, last, first_closed, last_closed):
        statement = statement.outerjoin(one, true())
    return statement.where(lives.open + lives.redriven + ends.resolved + ends.discarded > 0)


def _totals(letters: Select[*tuple[Any, ...]], of: FromClause, name: str) -> LateralFromClause:
    few, number = letters.correlate(of).subquery(), func.count()
    return select(
        *(number.filter(few.c.state == state).label(state) for state in LetterState),
        number.filter(few.c.overdue).label("overdue"),
        number.filter(few.c.assignee.is_(None)).label("unassigned"),
    ).lateral(name)


def _one(letters: Select[*tuple[Any, ...]], of: FromClause, name: str) -> LateralFromClause:
    return letters.limit(1).correlate(of).lateral(name)


def _cause(row: Any) -> Cause:
    values = {key: row[key] for key in Cause.__slots__ if key not in ("states", "count")}
    states = {state.value: row[state] for state in LetterState if row[state]}
    return Cause(**values, states=states, count=sum(states.values()))


def _by_live_letters(cause: Cause) -> tuple[int, int, str, str]:
    live = sum(cause.states.get(state, 0) for state in LIVE)
    return (-live, -cause.count, cause.code, cause.fingerprint)
