"""Persons whose deactivation is due while their learner may still be active."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Connection, Text, and_, bindparam, func, select, tuple_

from worker.ledger.fragments import plan_by_index
from worker.models import Instant, learners, persons
from worker.one_message import Step

Position = tuple[datetime, int, str]
"""When a deactivation takes effect, organisation and external id: the order in which due ones are read."""


@dataclass(frozen=True, slots=True)
class DuePerson:
    """A person whose deactivation is due while their learner may still be active."""

    position: Position
    known: bool
    """Whether the platform has such a learner by now."""


# The learner is looked up for each person as a value: a join could begin with all learners.
_KNOWN = select(learners.c.id).where(
    learners.c.organisation_id == persons.c.organisation_id, learners.c.external_id == persons.c.external_id
)
_KEY = (persons.c.effective_at, persons.c.organisation_id, persons.c.external_id)
_AFTER = [
    bindparam("time", type_=Instant),
    bindparam("organisation", type_=BigInteger),
    bindparam("person", type_=Text),
]
_DUE = (persons.c.deactivation_due, persons.c.effective_at <= func.now())
_LIST_DUE = (
    select(*_KEY, _KNOWN.scalar_subquery().is_not(None).label("known"))
    .where(*_DUE)
    .order_by(*_KEY)
    .limit(bindparam("limit", type_=BigInteger))
)
_LIST_DUE_AFTER = _LIST_DUE.where(tuple_(*_KEY) > tuple_(*_AFTER))
_LOCK_DUE = (
    select(persons.c.external_id)
    .join(
        learners,
        and_(learners.c.organisation_id == persons.c.organisation_id, learners.c.external_id == persons.c.external_id),
    )
    .where(
        *_DUE,
        persons.c.organisation_id == bindparam("organisation", type_=BigInteger),
        persons.c.external_id == bindparam("person", type_=Text),
    )
    .with_for_update(of=[persons, learners], skip_locked=True)
)


ANY_DUE = Step(
    "deactivations_due",
    "SELECT EXISTS (SELECT FROM withdrawals.persons WHERE deactivation_due AND effective_at <= now())",
)
"""Whether a deactivation is due, of a person whom the platform knows or not."""


def list_due_deactivations(connection: Connection, *, after: Position | None, limit: int) -> list[DuePerson]:
    """Persons whose deactivation is due, the longest due first, from the one after `after`."""
    plan_by_index(connection)
    if after is None:
        rows = connection.execute(_LIST_DUE, {"limit": limit})
    else:
        values = {"time": after[0], "organisation": after[1], "person": after[2], "limit": limit}
        rows = connection.execute(_LIST_DUE_AFTER, values)
    return [DuePerson((row.effective_at, row.organisation_id, row.external_id), row.known) for row in rows]


def lock_due_deactivation(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Lock a person whose deactivation is still due, and the learner; False when it is not, or one is locked."""
    return (
        connection.execute(_LOCK_DUE, {"organisation": organisation_id, "person": external_id}).one_or_none()
        is not None
    )
