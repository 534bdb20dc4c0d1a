"""Active enrolments that a Learning Pathway owns: how many of a Series, and the live letters about them. Read only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from schemas.catalogue import LetterCode
from worker.ledger.fragments import LIVE, among, one_of
from worker.models import dead_letters, enrolments
from worker.rules import ACTIVE

MOST_LETTERS = 500
"""Letters that are named; a filter of letters takes as many."""
LOOKED_AT = 50_000
"""Live letters that are compared with what is selected."""
COUNTED = 5_000
"""Enrolments of a Series that are looked at."""


class OwnedInSeries(NamedTuple):
    """Of the first `COUNTED` enrolments of a Series, the active ones, and those of them that a pathway owns."""

    active: int
    owned: int
    is_partial: bool
    """Whether the Series has more enrolments than were looked at."""


def count_in_series(connection: Connection, organisation_id: int, series_id: int) -> OwnedInSeries:
    """How many active enrolments of a Series a Learning Pathway owns."""
    # BETWEEN is for the planner, as in `series_library`.
    its = enrolments.c.series_id.between(series_id, series_id), enrolments.c.organisation_id == organisation_id
    few = select(enrolments.c.status, enrolments.c.pathway_id).where(*its).limit(COUNTED + 1).subquery("few")
    is_active = few.c.status.in_(ACTIVE)
    number = func.count()
    row = connection.execute(
        select(
            number.label("looked_at"),
            number.filter(is_active).label("active"),
            number.filter(is_active, few.c.pathway_id.is_not(None)).label("owned"),
        )
    ).one()
    return OwnedInSeries(row.active, row.owned, row.looked_at > COUNTED)


def list_letters(connection: Connection, organisation_id: int, selected: Select[Any]) -> tuple[list[int], bool]:
    """Live letters about owned enrolments among those that a query finds (one column `id`), up to `MOST_LETTERS`.

    And whether there may be more: they are found by the index over live letters, which any order would leave unused.
    """
    live = _live(organisation_id).limit(LOOKED_AT).subquery("live")
    ids = selected.subquery("selected")
    found = select(live.c.id).where(live.c.enrolment_id.in_(select(ids.c.id))).order_by(live.c.id)
    letters = list(connection.scalars(found.limit(MOST_LETTERS + 1)))
    if not letters:
        return [], False
    is_cut = len(letters) > MOST_LETTERS or connection.scalar(select(func.count()).select_from(live)) == LOOKED_AT
    return letters[:MOST_LETTERS], is_cut


def find_letters(connection: Connection, organisation_id: int, enrolment_ids: Sequence[int]) -> dict[int, int]:
    """By enrolment the live letter that says that a pathway owns it."""
    theirs = _live(organisation_id).where(among(dead_letters.c.enrolment_id, enrolment_ids))
    return {row.enrolment_id: row.id for row in connection.execute(theirs)}


def _live(organisation_id: int) -> Select[*tuple[Any, ...]]:
    return select(dead_letters.c.id, dead_letters.c.enrolment_id).where(
        dead_letters.c.organisation_id == organisation_id,
        dead_letters.c.code == LetterCode.PATHWAY_OWNED,
        one_of(dead_letters.c.state, LIVE),
    )
