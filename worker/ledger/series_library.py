"""The platform's Series with their enrolments counted, and its Learning Pathways. Read, never written.

An organisation's enrolments can be millions of rows: every statement has a limit, and none counts all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, exists, func, or_, select, text, true

from worker.ledger.fragments import among
from worker.models import enrolments, pathways, series
from worker.rules import ACTIVE

COUNTED_AT_MOST = 5000
"""Enrolments of a Series that are counted at once. A larger one is counted by itself, if that is quick."""
_MOST_PATHWAYS = 500


@dataclass(frozen=True, slots=True)
class CountedSeries:
    """A Series with its enrolments, at first counted up to one more than `COUNTED_AT_MOST`."""

    id: int
    code: str
    title: str
    enrolments: int
    active: int
    """Active enrolments among those that were counted."""

    @property
    def is_large(self) -> bool:
        """Whether there are more than were counted."""
        return self.enrolments == COUNTED_AT_MOST + 1


def list_series(
    connection: Connection,
    organisation_id: int,
    *,
    containing: str = "",
    after: str | None,
    limit: int,
    last_first: bool = False,
) -> list[CountedSeries]:
    """Series by code, from the first code behind `after`. `containing`: text in their code or title.

    `last_first`: from the last code to the first.
    """
    page = _counted_series(organisation_id).order_by(series.c.code.desc() if last_first else series.c.code).limit(limit)
    if after is not None:
        page = page.where(series.c.code < after if last_first else series.c.code > after)
    if containing:
        page = page.where(or_(_contains(series.c.code, containing), _contains(series.c.title, containing)))
    return [CountedSeries(**row) for row in connection.execute(page).mappings()]


def count_all(connection: Connection, organisation_id: int, found: Sequence[CountedSeries]) -> list[CountedSeries]:
    """The same Series with those that are large counted to the end.

    Raises:
        sqlalchemy.exc.OperationalError: it would take longer than half a second.
    """
    large = [one.id for one in found if one.is_large]
    if not large:
        return list(found)
    connection.execute(text("SET LOCAL statement_timeout = '500ms'"))
    statement = (
        select(
            enrolments.c.series_id,
            func.count().label("enrolments"),
            func.count().filter(enrolments.c.status.in_(ACTIVE)).label("active"),
        )
        .where(among(enrolments.c.series_id, large), enrolments.c.organisation_id == organisation_id)
        .group_by(enrolments.c.series_id)
    )
    rows = {row.series_id: row for row in connection.execute(statement)}
    return [
        replace(one, enrolments=rows[one.id].enrolments, active=rows[one.id].active) if one.id in rows else one
        for one in found
    ]


def find_series(connection: Connection, organisation_id: int, series_id: int) -> CountedSeries | None:
    """One Series of an organisation."""
    one = _counted_series(organisation_id).where(series.c.id == series_id)
    row = connection.execute(one).mappings().one_or_none()
    return CountedSeries(**row) if row else None


def find_series_id(connection: Connection, organisation_id: int, code: str) -> int | None:
    """The id of the organisation's Series with this code, or of the only one that has it in other capital letters."""
    own = series.c.organisation_id == organisation_id
    found = connection.scalar(select(series.c.id).where(own, series.c.code == code))
    if found is not None:
        return found
    is_alike = func.lower(series.c.code) == func.lower(code)
    alike = connection.scalars(select(series.c.id).where(own, is_alike).limit(2)).all()
    return alike[0] if len(alike) == 1 else None


def find_code(connection: Connection, organisation_id: int, series_id: int) -> str | None:
    """The code of an organisation's Series."""
    its = series.c.organisation_id == organisation_id, series.c.id == series_id
    return connection.scalar(select(series.c.code).where(*its))


def list_pathways(connection: Connection, organisation_id: int) -> list[tuple[int, str]]:
    """Id and title of an organisation's Learning Pathways by title, up to 500."""
    found = select(pathways.c.id, pathways.c.title).where(pathways.c.organisation_id == organisation_id)
    rows = connection.execute(found.order_by(pathways.c.title).limit(_MOST_PATHWAYS))
    return [(row.id, row.title) for row in rows]


def has_enrolments(connection: Connection, organisation_id: int) -> bool:
    """Whether an organisation has any enrolment."""
    # By the Series: the platform has an index over those, and none over an organisation's enrolments.
    enrolled = exists().where(enrolments.c.series_id == series.c.id).correlate(series)
    return bool(connection.scalar(select(exists().where(series.c.organisation_id == organisation_id, enrolled))))


def _counted_series(organisation_id: int) -> Select[Any]:
    # BETWEEN is for the planner. Where one Series has nearly all rows, it expects `=` to match nearly every row, and
    # reads the whole table for a Series that has no rows.
    own = select(enrolments.c.status).where(enrolments.c.series_id.between(series.c.id, series.c.id))
    few = own.limit(COUNTED_AT_MOST + 1).correlate(series).subquery("few")
    counted = select(
        func.count().label("enrolments"), func.count().filter(few.c.status.in_(ACTIVE)).label("active")
    ).select_from(few)
    counts = counted.lateral("counts")
    return (
        select(series.c.id, series.c.code, series.c.title, counts.c.enrolments, counts.c.active)
        .select_from(series.outerjoin(counts, true()))
        .where(series.c.organisation_id == organisation_id)
    )


def _contains(column: Any, text: str) -> Any:
    """Whether a column contains the text, in capitals or not; `%` and `_` in it stand for themselves."""
    return column.icontains(text, autoescape=True)
