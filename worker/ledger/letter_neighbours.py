"""The dead letters before and after one, in the order of the desk's list and within its filter."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    DateTime,
    Interval,
    Select,
    Text,
    column,
    func,
    literal,
    select,
    true,
    tuple_,
)

from schemas.catalogue import LetterCode
from schemas.dead_letters import LetterFilter
from worker.ledger.fragments import CLOSED, one_of
from worker.ledger.letter_filter import IS_LIVE, Targets, conditions
from worker.models import dead_letters


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Ids of the letters beside one; None: it is the first, or the last."""

    previous: int | None
    next: int | None


def find_neighbours(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    targets: Targets,
    *,
    letter_id: int,
    code: LetterCode,
    opened_at: datetime,
) -> Neighbours:
    """The letters beside one: among live ones by the time they are overdue, so that work goes on after an act.

    Only a filter for a closed state leads through closed ones, the newest first.
    """
    where = conditions(organisation_id, wanted)
    if wanted.state in CLOSED:
        back = _closed(where, dead_letters.c.id > letter_id).order_by(dead_letters.c.id)
        on = _closed(where, dead_letters.c.id < letter_id).order_by(dead_letters.c.id.desc())
        return Neighbours(connection.scalar(back), connection.scalar(on))
    due_at = opened_at + targets[code]
    of_code: Targets = {wanted.code: targets[wanted.code]} if wanted.code else targets
    back = _live(where, of_code, due_at, letter_id, forward=False)
    on = _live(where, of_code, due_at, letter_id, forward=True)
    return Neighbours(connection.scalar(back), connection.scalar(on))


def _closed(where: Sequence[ColumnElement[bool]], beside: ColumnElement[bool]) -> Select[int]:
    return select(dead_letters.c.id).where(*where, one_of(dead_letters.c.state, CLOSED), beside).limit(1)


def _live(
    where: Sequence[ColumnElement[bool]], targets: Targets, due_at: datetime, letter_id: int, *, forward: bool
) -> Select[Any]:
    """Of each code the nearest by age, from an index; then the nearest of these."""
    target = (
        func.unnest(literal(list(targets), ARRAY(Text)), literal(list(targets.values()), ARRAY(Interval)))
        .table_valued(column("code", Text), column("target", Interval))
        .render_derived("target")
    )
    age = tuple_(dead_letters.c.opened_at, dead_letters.c.id)
    place = tuple_(literal(due_at, DateTime(timezone=True)) - target.c.target, literal(letter_id))
    its_due_at = (dead_letters.c.opened_at + target.c.target).label("due_at")
    one = select(dead_letters.c.id, its_due_at).where(
        *where, IS_LIVE, dead_letters.c.code == target.c.code, age > place if forward else age < place
    )
    ordered = (dead_letters.c.opened_at, dead_letters.c.id)
    nearest = one.order_by(*(part if forward else part.desc() for part in ordered)).limit(1).lateral("nearest")
    order = (nearest.c.due_at, nearest.c.id)
    found = select(nearest.c.id).select_from(target.join(nearest, true()))
    return found.order_by(*(part if forward else part.desc() for part in order)).limit(1)
