"""The dead-letter desk: pages with the overdue first, groups, assignment and notes in sets, ageing, history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from schemas.dead_letters import LetterFilter
from worker.ledger.dead_letters import FILTERED, by_filter, these
from worker.records import DeadLetter

Targets = Mapping[str, timedelta]
"""By code: how long a letter may stay open until it is overdue."""

_LIVE = "d.state IN ('open', 'redriven')"
_TARGETS = "unnest(CAST(:codes AS text[]), CAST(:targets AS interval[])) AS t(code, target)"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last live letter by the time it is overdue, or the last closed one."""

    due_at: datetime | None
    id: int


# Of every code the next few by age, from an index; a letter's place does not change as time passes.
_LIVE_PAGE = text(f"""
SELECT l.id, l.due_at FROM {_TARGETS} CROSS JOIN LATERAL (
    SELECT d.id, d.opened_at + t.target AS due_at FROM withdrawals.dead_letters d
    WHERE {FILTERED} AND {_LIVE} AND d.code = t.code
        AND (CAST(:after_id AS bigint) IS NULL
            OR (d.opened_at, d.id) > (CAST(:after_due AS timestamptz) - t.target, CAST(:after_id AS bigint)))
    ORDER BY d.opened_at, d.id LIMIT :limit) l
ORDER BY l.due_at, l.id LIMIT :limit
""")
_CLOSED_PAGE = text(f"""
SELECT d.id FROM withdrawals.dead_letters d
WHERE {FILTERED} AND d.state IN ('resolved', 'discarded')
    AND (CAST(:before_id AS bigint) IS NULL OR d.id < :before_id)
ORDER BY d.id DESC LIMIT :limit
""")


def page(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    targets: Targets,
    *,
    after: Place | None = None,
    limit: int = 50,
) -> tuple[list[DeadLetter], Place | None]:
    """Letters that match, and where the page ended (None: at the end of the list).

    Live ones first, by the time they are or were overdue; then closed ones, newest first.
    """
    values = _values(organisation_id, wanted, targets, limit=limit)
    places: list[Place] = []
    if wanted.state in (None, "open", "redriven") and (after is None or after.due_at is not None):
        since = {"after_id": after.id if after else None, "after_due": after.due_at if after else None}
        places = [Place(row.due_at, row.id) for row in connection.execute(_LIVE_PAGE, {**values, **since})]
    if wanted.state in (None, "resolved", "discarded") and len(places) < limit:
        before = after.id if after and after.due_at is None else None
        rows = connection.execute(_CLOSED_PAGE, {**values, "before_id": before, "limit": limit - len(places)})
        places += [Place(None, row.id) for row in rows]
    found = these(connection, organisation_id, [place.id for place in places])
    return found, places[-1] if len(places) == limit else None


_OVERDUE = text(f"""
SELECT count(*) FROM {_TARGETS} JOIN withdrawals.dead_letters d ON d.code = t.code
WHERE {FILTERED} AND {_LIVE} AND d.opened_at < now() - t.target
""")


def count_overdue(connection: Connection, organisation_id: int, wanted: LetterFilter, targets: Targets) -> int:
    """How many of the letters that match are overdue."""
    return int(connection.scalar(_OVERDUE, _values(organisation_id, wanted, targets)) or 0)


_COUNT = text(f"""
SELECT count(*) FROM (SELECT 1 FROM withdrawals.dead_letters d
    WHERE {FILTERED} AND (NOT :live OR {_LIVE}) LIMIT :most) found
""")


def count(connection: Connection, organisation_id: int, wanted: LetterFilter, *, live: bool, most: int) -> int:
    """How many letters match (`live`: of those that are open or redriven), counted up to `most`."""
    values = {**by_filter(organisation_id, wanted), "live": live, "most": most}
    return int(connection.scalar(_COUNT, values) or 0)


_ASSIGNEES = text(f"""
SELECT DISTINCT d.assignee FROM withdrawals.dead_letters d
WHERE d.organisation_id = :organisation_id AND {_LIVE} AND d.assignee IS NOT NULL ORDER BY 1 LIMIT :most
""")


def assignees(connection: Connection, organisation_id: int, *, most: int) -> list[str]:
    """Who looks after live letters, by name."""
    return list(connection.scalars(_ASSIGNEES, {"organisation_id": organisation_id, "most": most}))


_AROUND = text(f"""
WITH chosen AS MATERIALIZED (
    SELECT d.id, d.organisation_id, d.enrolment_id, d.learner_external_id, d.fingerprint
    FROM withdrawals.dead_letters d WHERE d.organisation_id = :organisation_id AND d.id = ANY(:ids)
), alike AS MATERIALIZED (
    SELECT f.fingerprint, (SELECT count(*) FROM (SELECT 1 FROM withdrawals.dead_letters d
        WHERE d.organisation_id = :organisation_id AND d.fingerprint = f.fingerprint AND {_LIVE} LIMIT :most) counted
    ) AS alike FROM (SELECT DISTINCT fingerprint FROM chosen) f
)
SELECT c.id, a.alike, s.code AS series_code, s.title AS series_title, e.status,
    coalesce(l.external_id, c.learner_external_id) AS learner_external_id, l.display_name AS learner_name
FROM chosen c JOIN alike a ON a.fingerprint = c.fingerprint
LEFT JOIN lms.enrolments e ON e.id = c.enrolment_id AND e.organisation_id = c.organisation_id
LEFT JOIN lms.series s ON s.id = e.series_id
LEFT JOIN lms.learners p ON p.organisation_id = c.organisation_id AND p.external_id = c.learner_external_id
LEFT JOIN lms.learners l ON l.id = coalesce(e.learner_id, p.id)
""")


def around(
    connection: Connection, organisation_id: int, letter_ids: Sequence[int], *, most: int
) -> dict[int, dict[str, Any]]:
    """Whom and what letters are about, as the platform names them now, and how many live ones are `alike`.

    Counted up to `most`.
    """
    values = {"organisation_id": organisation_id, "ids": list(letter_ids), "most": most}
    return {row["id"]: dict(row) for row in connection.execute(_AROUND, values).mappings()}


@dataclass(frozen=True, slots=True)
class Group:
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


_GROUPS = text(f"""
SELECT d.code, d.fingerprint, count(*) AS count,
    count(*) FILTER (WHERE d.state = 'open') AS open, count(*) FILTER (WHERE d.state = 'redriven') AS redriven,
    count(*) FILTER (WHERE d.state = 'resolved') AS resolved,
    count(*) FILTER (WHERE d.state = 'discarded') AS discarded,
    count(*) FILTER (WHERE {_LIVE} AND d.opened_at < now() - t.target) AS overdue,
    count(*) FILTER (WHERE {_LIVE} AND d.assignee IS NULL) AS unassigned,
    coalesce(min(d.opened_at) FILTER (WHERE {_LIVE}), min(d.opened_at)) AS oldest, max(d.opened_at) AS newest,
    coalesce(min(d.id) FILTER (WHERE {_LIVE}), min(d.id)) AS sample,
    count(*) OVER () AS groups, CAST(sum(count(*)) OVER () AS bigint) AS letters
FROM withdrawals.dead_letters d LEFT JOIN {_TARGETS} ON t.code = d.code
WHERE {FILTERED} GROUP BY d.code, d.fingerprint
ORDER BY count(*) FILTER (WHERE {_LIVE}) DESC, count(*) DESC, d.code, d.fingerprint LIMIT :limit
""")
_STATES = ("open", "redriven", "resolved", "discarded")


def groups(
    connection: Connection, organisation_id: int, wanted: LetterFilter, targets: Targets, *, limit: int
) -> tuple[list[Group], int, int]:
    """Letters that match by code and fingerprint, those with most live ones first; all groups, and all letters."""
    rows = connection.execute(_GROUPS, _values(organisation_id, wanted, targets, limit=limit)).mappings().all()
    found = []
    for row in rows:
        values = {key: row[key] for key in Group.__slots__ if key != "states"}
        found.append(Group(**values, states={state: row[state] for state in _STATES if row[state]}))
    return found, rows[0]["groups"] if rows else 0, rows[0]["letters"] if rows else 0


_OVERVIEW = text(f"""
SELECT t.code, count(d.id) AS live, count(*) FILTER (WHERE d.opened_at < now() - t.target) AS overdue,
    count(d.id) FILTER (WHERE d.assignee IS NULL) AS unassigned, min(d.opened_at) AS oldest,
    count(*) FILTER (WHERE d.opened_at >= now() - interval '1 day') AS day,
    count(*) FILTER (WHERE d.opened_at >= now() - interval '7 days') AS week,
    count(*) FILTER (WHERE d.opened_at >= now() - interval '30 days') AS month
FROM {_TARGETS} LEFT JOIN withdrawals.dead_letters d
    ON d.organisation_id = :organisation_id AND d.code = t.code AND {_LIVE}
GROUP BY t.code ORDER BY 3 DESC, 2 DESC, 1
""")


def overview(connection: Connection, organisation_id: int, targets: Targets) -> list[dict[str, Any]]:
    """Live letters of each code: how many, overdue, nobody's, the oldest; opened within a day, a week, a month."""
    values = {"organisation_id": organisation_id, **_bound(targets)}
    return [dict(row) for row in connection.execute(_OVERVIEW, values).mappings()]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction of an act in sets did; `last`: the highest letter it looked at, None when there was none."""

    matched: int
    changed: int
    last: int | None


_CHOSEN = """
SELECT d.id, d.organisation_id, d.job_id, d.assignee FROM withdrawals.dead_letters d
WHERE {which} AND d.id > :after AND d.id <= :ceiling ORDER BY d.id LIMIT :most"""
_THESE = "d.organisation_id = :organisation_id AND d.id = ANY(:ids)"
_ASSIGN = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN} FOR UPDATE), changed AS (
    UPDATE withdrawals.dead_letters d SET assignee = :to FROM chosen c
    WHERE d.id = c.id AND c.assignee IS DISTINCT FROM CAST(:to AS text)
    RETURNING d.id, d.organisation_id, d.job_id, c.assignee AS before
), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, note, detail)
    SELECT organisation_id, :actor, 'dead_letter.assign', job_id, id, :note,
        jsonb_build_object('act', CAST(:act AS text), 'before', before, 'after', CAST(:to AS text))
    FROM changed ORDER BY id
)
SELECT count(*) AS matched, (SELECT count(*) FROM changed) AS changed, max(id) AS last FROM chosen
"""
_NOTE = f"""
WITH chosen AS MATERIALIZED ({_CHOSEN}), audited AS (
    INSERT INTO withdrawals.audit (organisation_id, actor, action, job_id, dead_letter_id, note, detail)
    SELECT organisation_id, :actor, 'dead_letter.note', job_id, id, :note,
        jsonb_build_object('act', CAST(:act AS text))
    FROM chosen ORDER BY id
)
SELECT count(*) AS matched, count(*) AS changed, max(id) AS last FROM chosen
"""
_ACTS = {
    (act, by_filter): text(statement.format(which=(FILTERED if by_filter else _THESE) + only))
    for act, statement, only in (("assign", _ASSIGN, f" AND {_LIVE}"), ("note", _NOTE, ""))
    for by_filter in (True, False)
}


def assign(connection: Connection, selection: Mapping[str, Any], assignee: str | None, **batch: Any) -> Batch:
    """Let somebody (None: nobody) have the live ones of the letters chosen, each with its audit row.

    `selection` is what `chosen` or `matching` made; `batch`: `actor`, `act`, `note`, `after`, `ceiling`, `most`.
    """
    statement = _ACTS["assign", "ids" not in selection]
    return Batch(**connection.execute(statement, {**selection, **batch, "to": assignee}).mappings().one())


def note(connection: Connection, selection: Mapping[str, Any], **batch: Any) -> Batch:
    """Put a note beside each letter chosen; as `assign`."""
    statement = _ACTS["note", "ids" not in selection]
    return Batch(**connection.execute(statement, {**selection, **batch}).mappings().one())


def chosen(organisation_id: int, letter_ids: Sequence[int]) -> dict[str, Any]:
    """The selection of letters by id."""
    return {"organisation_id": organisation_id, "ids": list(letter_ids)}


def matching(organisation_id: int, wanted: LetterFilter) -> dict[str, Any]:
    """The selection of all letters that match."""
    return by_filter(organisation_id, wanted)


_MARK = text("""
SELECT (SELECT coalesce(max(id), 0) FROM withdrawals.audit) AS audit,
    (SELECT coalesce(max(id), 0) FROM withdrawals.dead_letters) AS letter
""")


def mark(connection: Connection) -> tuple[int, int]:
    """Where an act in sets begins: the last audit row, and the last letter that it looks at."""
    row = connection.execute(_MARK).one()
    return row.audit, row.letter


_RECORDED = text("""
SELECT count(*) AS matched, count(*) AS changed, max(dead_letter_id) AS last FROM withdrawals.audit
WHERE id > :mark AND detail ->> 'act' = :act
""")


def recorded(connection: Connection, act: str, *, since: int) -> Batch | None:
    """What an act that began after that audit row has done already: a repetition after a lost answer finds itself."""
    batch = Batch(**connection.execute(_RECORDED, {"mark": since, "act": act}).mappings().one())
    return batch if batch.changed else None


_STRIP = text("""
UPDATE withdrawals.dead_letters SET evidence = '{}', evidence_dropped_at = now() WHERE id IN (
    SELECT id FROM withdrawals.dead_letters WHERE state IN ('resolved', 'discarded')
        AND evidence_dropped_at IS NULL AND closed_at < now() - CAST(:keep AS interval)
    ORDER BY closed_at LIMIT :most FOR UPDATE SKIP LOCKED)
""")


def strip(connection: Connection, *, keep: timedelta, most: int = 1000) -> int:
    """Drop the evidence of letters closed longer ago than `keep`; how many."""
    return connection.execute(_STRIP, {"keep": keep, "most": most}).rowcount


_TELL_OVERDUE = text(f"""
WITH due AS (
    SELECT d.id FROM {_TARGETS} JOIN withdrawals.dead_letters d ON d.code = t.code
    WHERE d.organisation_id IN (SELECT e.organisation_id FROM withdrawals.endpoints e
            WHERE e.disabled_at IS NULL AND 'dead_letter.overdue' = ANY(e.events))
        AND {_LIVE} AND d.overdue_told_at IS NULL AND d.opened_at < now() - t.target
    ORDER BY d.id LIMIT :most FOR UPDATE OF d SKIP LOCKED
), told AS (
    UPDATE withdrawals.dead_letters d SET overdue_told_at = now() FROM due WHERE d.id = due.id
    RETURNING d.id, d.organisation_id, d.code
), deliveries AS (
    INSERT INTO withdrawals.deliveries (endpoint_id, organisation_id, type, data)
    SELECT e.id, l.organisation_id, 'dead_letter.overdue', jsonb_build_object('code', l.code, 'count', count(*),
        'dead_letter_ids', jsonb_agg(l.id ORDER BY l.id))
    FROM told l JOIN withdrawals.endpoints e ON e.organisation_id = l.organisation_id AND e.disabled_at IS NULL
        AND 'dead_letter.overdue' = ANY(e.events)
    GROUP BY e.id, l.organisation_id, l.code
)
SELECT count(*) FROM told
""")


def tell_overdue(connection: Connection, targets: Targets, *, most: int = 1000) -> int:
    """Let webhooks tell of letters that have become overdue, once each; how many. One delivery for all of a code."""
    return int(connection.scalar(_TELL_OVERDUE, {**_bound(targets), "most": most}) or 0)


def _values(organisation_id: int, wanted: LetterFilter, targets: Targets, **more: Any) -> dict[str, Any]:
    return {**by_filter(organisation_id, wanted), **_bound(targets), **more}


def _bound(targets: Targets) -> dict[str, Any]:
    return {"codes": list(targets), "targets": list(targets.values())}
