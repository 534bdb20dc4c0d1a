"""What the desk writes without deciding a letter: who looks after it, notes, the news that it is overdue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Text,
    any_,
    func,
    insert,
    literal,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from schemas.dead_letters import LetterFilter
from worker.ledger.fragments import CLOSED, among, one_of, plan_by_index, sql_list
from worker.ledger.letter_filter import IS_LIVE, Targets, conditions, is_overdue
from worker.models import audit, dead_letters, deliveries, endpoints
from worker.one_message import Step

Selection = Sequence[ColumnElement[bool]]
"""Which letters an act is about."""

_AUDITED = ["organisation_id", "actor", "action", "job_id", "dead_letter_id", "note", "detail"]


def by_ids(organisation_id: int, letter_ids: Sequence[int]) -> Selection:
    """The selection of letters by id."""
    return [dead_letters.c.organisation_id == organisation_id, among(dead_letters.c.id, letter_ids)]


def by_filter(organisation_id: int, wanted: LetterFilter) -> Selection:
    """The selection of all letters that match."""
    return conditions(organisation_id, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One transaction of an act on a selection: who acts, and which letters it takes, in id order."""

    actor: str
    act_id: str
    """On record in each audit row, so that a repetition after a lost answer finds itself."""
    note: str | None
    after: int = 0
    ceiling: int = 2**63 - 1
    """Letters with an id above `after`, up to this one."""
    most: int


@dataclass(frozen=True, slots=True)
class Done:
    """What one transaction did; `last`: the highest letter it looked at, None when there was none."""

    matched: int
    changed: int
    last: int | None


def assign(connection: Connection, selection: Selection, assignee: str | None, part: Part) -> Done:
    """Let somebody (None: nobody) look after the live ones of the letters selected, each with its audit row."""
    chosen = (
        _select_part([*selection, IS_LIVE], part, dead_letters.c.assignee)
        .with_for_update()
        .cte("chosen")
        .prefix_with("MATERIALIZED")
    )
    changed = (
        update(dead_letters)
        .where(dead_letters.c.id == chosen.c.id, chosen.c.assignee.is_distinct_from(assignee))
        .values(assignee=assignee)
        .returning(
            dead_letters.c.id, dead_letters.c.organisation_id, dead_letters.c.job_id, chosen.c.assignee.label("before")
        )
        .cte("changed")
    )
    detail = _json(act=part.act_id, before=changed.c.before, after=assignee)
    audited = _audit("dead_letter.assign", changed, detail, part)
    number = select(func.count()).select_from(changed).scalar_subquery()
    counts = select(func.count().label("matched"), number.label("changed"), func.max(chosen.c.id).label("last"))
    return Done(**connection.execute(counts.select_from(chosen).add_cte(audited)).mappings().one())


def note(connection: Connection, selection: Selection, part: Part) -> Done:
    """Put a note beside each letter selected."""
    chosen = _select_part(selection, part).cte("chosen").prefix_with("MATERIALIZED")
    detail = _json(act=part.act_id)
    audited = _audit("dead_letter.note", chosen, detail, part)
    number = func.count()
    counts = select(number.label("matched"), number.label("changed"), func.max(chosen.c.id).label("last"))
    return Done(**connection.execute(counts.select_from(chosen).add_cte(audited)).mappings().one())


def _select_part(selection: Selection, part: Part, *more: Column[Any]) -> Any:
    within = (dead_letters.c.id > part.after, dead_letters.c.id <= part.ceiling)
    letter = select(dead_letters.c.id, dead_letters.c.organisation_id, dead_letters.c.job_id).add_columns(*more)
    return letter.where(*selection, *within).order_by(dead_letters.c.id).limit(part.most)


def _audit(action: str, letters: Any, detail: ColumnElement[Any], part: Part) -> Any:
    rows = select(
        letters.c.organisation_id,
        literal(part.actor),
        literal(action),
        letters.c.job_id,
        letters.c.id,
        literal(part.note, Text),
        detail,
    )
    return insert(audit).from_select(_AUDITED, rows.order_by(letters.c.id)).cte("audited")


def _json(**values: ColumnElement[Any] | str | None) -> ColumnElement[Any]:
    """An object of these names; every parameter has its type, which PostgreSQL cannot infer here."""
    typed: list[ColumnElement[Any]] = []
    for name, value in values.items():
        typed += [literal(name, Text), value if isinstance(value, ColumnElement) else literal(value, Text)]
    return func.jsonb_build_object(*typed)


def find_bounds(connection: Connection) -> tuple[int, int]:
    """Where an act on a selection begins: the last audit row, and the last letter that it looks at."""
    last_audit = select(func.coalesce(func.max(audit.c.id), 0)).scalar_subquery()
    last_letter = select(func.coalesce(func.max(dead_letters.c.id), 0)).scalar_subquery()
    row = connection.execute(select(last_audit, last_letter)).one()
    return row[0], row[1]


def find_done(connection: Connection, act_id: str, *, since: int) -> Done | None:
    """What an act that began after that audit row has done already: a repetition after a lost answer finds itself."""
    number = func.count()
    counts = select(number.label("matched"), number.label("changed"), func.max(audit.c.dead_letter_id).label("last"))
    mine = counts.where(audit.c.id > since, audit.c.detail["act"].astext == act_id)
    done = Done(**connection.execute(mine).mappings().one())
    return done if done.changed else None


ANY_TO_STRIP = Step(
    "letters_to_strip",
    f"""SELECT EXISTS (SELECT FROM withdrawals.dead_letters WHERE state IN ({sql_list(CLOSED)})
    AND evidence_dropped_at IS NULL AND closed_at < now() - CAST(:keep AS interval))""",
)
"""Whether `drop_evidence` finds any."""


def drop_evidence(connection: Connection, *, keep: timedelta, most: int = 1000) -> int:
    """Drop the evidence of letters closed longer ago than `keep`; how many."""
    old = (
        select(dead_letters.c.id)
        .where(
            one_of(dead_letters.c.state, CLOSED),
            dead_letters.c.evidence_dropped_at.is_(None),
            dead_letters.c.closed_at < func.now() - keep,
        )
        .order_by(dead_letters.c.closed_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    dropped = {"evidence": {}, "evidence_dropped_at": func.now()}
    return connection.execute(update(dead_letters).where(dead_letters.c.id.in_(old)).values(dropped)).rowcount


def announce_overdue(connection: Connection, targets: Targets, *, most: int = 1000) -> int:
    """Queue webhooks about letters that have become overdue, each once; how many. One delivery for all of a code."""
    plan_by_index(connection)
    event = literal_column("'dead_letter.overdue'", Text)
    subscribed = (endpoints.c.disabled_at.is_(None), event == any_(endpoints.c.events))
    organisations = select(endpoints.c.organisation_id).distinct().where(*subscribed).cte("organisations")
    # of each organisation and code, from the index of those that were not told: however many others there are
    found = union_all(
        *(
            select(late.c.id).select_from(organisations.join(late, true()))
            for late in (
                select(dead_letters.c.id)
                .where(
                    dead_letters.c.organisation_id == organisations.c.organisation_id,
                    is_overdue({code: target}),
                    dead_letters.c.overdue_told_at.is_(None),
                )
                .limit(most)
                .lateral(f"late_{code}")
                for code, target in targets.items()
            )
        )
    ).cte("found")
    due = (
        select(dead_letters.c.id)
        .where(
            dead_letters.c.id == any_(func.array(select(found.c.id).scalar_subquery())),
            dead_letters.c.overdue_told_at.is_(None),
        )
        .order_by(dead_letters.c.id)
        .limit(most)
        .with_for_update(of=dead_letters, skip_locked=True)
        .cte("due")
    )
    announced = (
        update(dead_letters)
        .where(dead_letters.c.id == any_(func.array(select(due.c.id).scalar_subquery())))
        .values(overdue_told_at=func.now())
        .returning(dead_letters.c.id, dead_letters.c.organisation_id, dead_letters.c.code)
        .cte("announced")
    )
    ids = func.jsonb_agg(aggregate_order_by(announced.c.id, announced.c.id))
    data = _json(code=announced.c.code, count=func.count(), dead_letter_ids=ids)
    queued = (
        select(endpoints.c.id, announced.c.organisation_id, event, data)
        .join(endpoints, endpoints.c.organisation_id == announced.c.organisation_id)
        .where(*subscribed)
        .group_by(endpoints.c.id, announced.c.organisation_id, announced.c.code)
    )
    columns = ["endpoint_id", "organisation_id", "type", "data"]
    written = insert(deliveries).from_select(columns, queued).cte("written")
    return connection.scalar(select(func.count()).select_from(announced).add_cte(written)) or 0
