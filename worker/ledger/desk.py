"""The dead-letter desk, read: pages with the overdue first, and what a page shows beside its letters."""

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
    and_,
    column,
    func,
    literal,
    select,
    true,
    tuple_,
)

from schemas.dead_letters import LetterFilter
from worker.ledger.fragments import CLOSED, LIVE, among, one_of, plan_by_index, plan_by_order
from worker.ledger.letter_filter import IS_LIVE, Targets, conditions
from worker.ledger.letter_lists import find_letters
from worker.models import dead_letters, enrolments, jobs, learners, series
from worker.records import DeadLetter


@dataclass(frozen=True, slots=True)
class PageEnd:
    """The last letter of a page: a live one with the time at which it is overdue, or a closed one without."""

    due_at: datetime | None
    id: int


def list_letters(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    targets: Targets,
    *,
    after: PageEnd | None = None,
    limit: int = 50,
) -> tuple[list[DeadLetter], PageEnd | None]:
    """Letters that match, and where the page ends (None: at the end of the list).

    Live ones first, by the time they are or were overdue; then closed ones, newest first.
    """
    plan_by_order(connection)
    where = conditions(organisation_id, wanted)
    found: list[PageEnd] = []
    if _may_be(wanted, LIVE) and (after is None or after.due_at is not None):
        of_code: Targets = {wanted.code: targets[wanted.code]} if wanted.code else targets
        rows = connection.execute(_live_page(where, of_code, after, limit))
        found = [PageEnd(row.due_at, row.id) for row in rows]
    if _may_be(wanted, CLOSED) and len(found) < limit:
        before = after.id if after and after.due_at is None else None
        rows = connection.execute(_closed_page(where, before, limit - len(found)))
        found += [PageEnd(None, row.id) for row in rows]
    letters = find_letters(connection, organisation_id, [end.id for end in found])
    return letters, found[-1] if len(found) == limit else None


def list_by_number(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    *,
    last: int | None,
    limit: int,
    oldest_first: bool,
) -> list[DeadLetter]:
    """Letters that match, whatever their state, by number. `last`: the last one of the page before."""
    plan_by_order(connection)
    number = dead_letters.c.id
    found = select(number).where(*conditions(organisation_id, wanted))
    if last is not None:
        found = found.where(number > last if oldest_first else number < last)
    page = found.order_by(number if oldest_first else number.desc()).limit(limit)
    return find_letters(connection, organisation_id, list(connection.scalars(page)))


def _may_be(wanted: LetterFilter, states: Sequence[str]) -> bool:
    return wanted.state is None or wanted.state in states


def _live_page(
    where: Sequence[ColumnElement[bool]], targets: Targets, after: PageEnd | None, limit: int
) -> Select[*tuple[Any, ...]]:
    """Of each code the next few by age, from an index; a letter's place does not change as time passes."""
    target = (
        func.unnest(literal(list(targets), ARRAY(Text)), literal(list(targets.values()), ARRAY(Interval)))
        .table_valued(column("code", Text), column("target", Interval))
        .render_derived("target")
    )
    age = (dead_letters.c.opened_at, dead_letters.c.id)
    due_at = (dead_letters.c.opened_at + target.c.target).label("due_at")
    oldest = select(dead_letters.c.id, due_at).where(*where, IS_LIVE, dead_letters.c.code == target.c.code)
    if after is not None:
        opened_at = literal(after.due_at, DateTime(timezone=True)) - target.c.target
        oldest = oldest.where(tuple_(*age) > tuple_(opened_at, literal(after.id)))
    found = oldest.order_by(*age).limit(limit).lateral("found")
    next_few = select(found.c.id, found.c.due_at).select_from(target.join(found, true()))
    return next_few.order_by(found.c.due_at, found.c.id).limit(limit)


def _closed_page(where: Sequence[ColumnElement[bool]], before: int | None, limit: int) -> Select[int]:
    found = select(dead_letters.c.id).where(*where, one_of(dead_letters.c.state, CLOSED))
    if before is not None:
        found = found.where(dead_letters.c.id < before)
    return found.order_by(dead_letters.c.id.desc()).limit(limit)


def find_context(
    connection: Connection, organisation_id: int, letter_ids: Sequence[int], *, most: int
) -> dict[int, dict[str, Any]]:
    """Whom and what letters are about, as the platform names them now, and how many live ones are `alike`.

    Counted up to `most`.
    """
    plan_by_index(connection)
    # Both steps are materialized: the letters come from their key, and each fingerprint is counted once.
    chosen = (
        select(
            dead_letters.c.id,
            dead_letters.c.organisation_id,
            dead_letters.c.enrolment_id,
            dead_letters.c.learner_external_id,
            dead_letters.c.fingerprint,
            dead_letters.c.job_id,
        )
        .where(dead_letters.c.organisation_id == organisation_id, among(dead_letters.c.id, letter_ids))
        .cte("chosen")
        .prefix_with("MATERIALIZED")
    )
    fingerprints = select(chosen.c.fingerprint).distinct().subquery("fingerprints")
    same = (
        select(dead_letters.c.id)
        .where(
            dead_letters.c.organisation_id == organisation_id,
            dead_letters.c.fingerprint == fingerprints.c.fingerprint,
            IS_LIVE,
        )
        .limit(most)
        .correlate(fingerprints)
        .subquery("same")
    )
    counted = select(func.count()).select_from(same).scalar_subquery()
    alike = select(fingerprints.c.fingerprint, counted.label("alike")).cte("alike").prefix_with("MATERIALIZED")
    # A letter names an enrolment, and with it its learner, or a learner alone.
    named, learner = learners.alias("named"), learners.alias("learner")
    statement = (
        select(
            chosen.c.id,
            alike.c.alike,
            series.c.code.label("series_code"),
            series.c.title.label("series_title"),
            enrolments.c.status,
            func.coalesce(learner.c.external_id, chosen.c.learner_external_id).label("learner_external_id"),
            learner.c.display_name.label("learner_name"),
            jobs.c.reason,
        )
        .select_from(chosen)
        .join(alike, alike.c.fingerprint == chosen.c.fingerprint)
        .outerjoin(
            enrolments,
            (enrolments.c.id == chosen.c.enrolment_id) & (enrolments.c.organisation_id == chosen.c.organisation_id),
        )
        .outerjoin(series, series.c.id == enrolments.c.series_id)
        .outerjoin(jobs, jobs.c.id == chosen.c.job_id)
        .outerjoin(
            named,
            (named.c.organisation_id == chosen.c.organisation_id)
            & (named.c.external_id == chosen.c.learner_external_id),
        )
        .outerjoin(learner, learner.c.id == func.coalesce(enrolments.c.learner_id, named.c.id))
    )
    return {row["id"]: dict(row) for row in connection.execute(statement).mappings()}


def count_others_in_pathway(
    connection: Connection, organisation_id: int, letter_ids: Sequence[int]
) -> dict[int, int]:  # fmt: skip
    """By letter how many other enrolments, of whatever status, its learner has in the pathway of its enrolment.

    Letters about no enrolment of a pathway are left out.
    """
    plan_by_index(connection)
    other = enrolments.alias("other")
    is_other = and_(
        other.c.learner_id == enrolments.c.learner_id,
        other.c.pathway_id == enrolments.c.pathway_id,
        other.c.id != enrolments.c.id,
    )
    counts = (
        select(dead_letters.c.id, func.count(other.c.id).label("others"))
        .join(enrolments, enrolments.c.id == dead_letters.c.enrolment_id)
        .outerjoin(other, is_other)
        .where(
            dead_letters.c.organisation_id == organisation_id,
            enrolments.c.organisation_id == organisation_id,
            among(dead_letters.c.id, letter_ids),
            enrolments.c.pathway_id.is_not(None),
        )
        .group_by(dead_letters.c.id)
    )
    return {row.id: row.others for row in connection.execute(counts)}
