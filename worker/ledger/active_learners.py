"""Learners who are enrolled in something now, a page at a time. The tables are the platform's, and are read only."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, true

from worker.ledger.fragments import one_of, plan_by_order
from worker.models import enrolments, learners
from worker.rules import ACTIVE

_LOOKED_AT = 500
"""Learners that one page looks at, whether they have active enrolments or not."""


@dataclass(frozen=True, slots=True)
class ActiveLearner:
    """A learner with active enrolments, and how many."""

    id: int
    external_id: str
    name: str | None
    is_active: bool
    enrolments: int


def list_active_learners(
    connection: Connection, organisation_id: int, *, after: str | None, limit: int
) -> tuple[list[ActiveLearner], str | None]:
    """Learners by their external ids, from behind `after`, and where the next page goes on; None: there is none.

    A page has fewer than `limit` where the learners it looks at have too few active enrolments among them.
    """
    plan_by_order(connection)
    own = select(learners).where(learners.c.organisation_id == organisation_id)
    if after is not None:
        own = own.where(learners.c.external_id > after)
    few = own.order_by(learners.c.external_id).limit(_LOOKED_AT).subquery("few")
    active = (
        select(func.count().label("active"))
        .where(
            enrolments.c.learner_id == few.c.id,
            enrolments.c.organisation_id == organisation_id,
            one_of(enrolments.c.status, ACTIVE),
        )
        .lateral("theirs")
    )
    statement = (
        select(few.c.id, few.c.external_id, few.c.display_name, few.c.active, active.c.active)
        .select_from(few.join(active, true()))
        .order_by(few.c.external_id)
    )
    seen = [ActiveLearner(*row) for row in connection.execute(statement)]
    found = [one for one in seen if one.enrolments]
    if len(found) > limit:
        return found[:limit], found[limit - 1].external_id
    return found, seen[-1].external_id if len(seen) == _LOOKED_AT else None
