"""What a cascade of letters withdraws as well: the learner's other active enrolments in the pathway."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import FromClause

from schemas.catalogue import LetterCode, LetterState
from schemas.dead_letters import LetterFilter
from worker.ledger.attempts_preview import APART, PATHWAY_SEEN, matching_open, of_roster
from worker.ledger.fragments import among, one_of
from worker.models import dead_letters, enrolments, jobs, outcomes, persons
from worker.rules import ACTIVE, NEEDS_SUPPORT


@dataclass(frozen=True, slots=True)
class Siblings:
    """The learner's other active enrolments in the pathway of a letter's enrolment, and for whom they are withdrawn."""

    letter_id: int
    reason: str
    epoch: int | None
    deactivated_external_id: str | None
    """With `epoch`, where the job is a deactivation or its cascade: the person."""
    pathway_id: int
    ids: list[int]


_OTHER = enrolments.alias("other")
_IS_ITS_ENROLMENT = and_(
    enrolments.c.id == dead_letters.c.enrolment_id, enrolments.c.organisation_id == dead_letters.c.organisation_id
)


def _is_sibling(its: FromClause) -> ColumnElement[bool]:
    """Whether `other` is an active enrolment beside that of the letter, in the pathway of both."""
    return and_(
        _OTHER.c.learner_id == its.c.learner_id,
        _OTHER.c.organisation_id == its.c.organisation_id,
        _OTHER.c.pathway_id == its.c.pathway_id,
        _OTHER.c.id != its.c.id,
        # The pathway that the letter saw, and no other that has taken the enrolment over since.
        _OTHER.c.pathway_id == func.coalesce(PATHWAY_SEEN, _OTHER.c.pathway_id),
        one_of(_OTHER.c.status, ACTIVE),
    )


_ITS_ENROLMENT = (
    select(enrolments.c.id, enrolments.c.organisation_id, enrolments.c.learner_id, enrolments.c.pathway_id)
    .where(_IS_ITS_ENROLMENT)
    .correlate(dead_letters)
    .offset(APART)
    .lateral("its_enrolment")
)
_SIBLING = (
    select(_OTHER.c.id)
    .where(_is_sibling(_ITS_ENROLMENT))
    .correlate(dead_letters, _ITS_ENROLMENT)
    .offset(APART)
    .lateral("sibling")
)


_DEACTIVATED = func.coalesce(jobs.c.deactivated_external_id, jobs.c.learner_external_id)
_GONE = of_roster(jobs.c.id)
_EPOCH, _PERSON = func.coalesce(jobs.c.epoch, _GONE.c.epoch), func.coalesce(_DEACTIVATED, _GONE.c.external_id)
_HAS_NEWER_EVENT = exists().where(
    persons.c.organisation_id == jobs.c.organisation_id,
    persons.c.external_id == _PERSON,
    persons.c.epoch != _EPOCH,
)
# Of the jobs that wait for a letter the first that still stands, as in the attempt itself; else the first of all.
_ASKING = (
    select(jobs.c.reason, _EPOCH.label("epoch"), case((_EPOCH.is_not(None), _PERSON)).label("person"))
    .join(outcomes, outcomes.c.job_id == jobs.c.id)
    .outerjoin(_GONE, true())
    .where(outcomes.c.dead_letter_id == dead_letters.c.id, one_of(outcomes.c.outcome, sorted(NEEDS_SUPPORT)))
    .order_by(and_(_EPOCH.is_not(None), _HAS_NEWER_EVENT), jobs.c.id)
    .limit(1)
    .lateral("asking")
)


def find(connection: Connection, letter_ids: Sequence[int]) -> list[Siblings]:
    """What a cascade of these letters withdraws as well; letters without any are left out."""
    of_letter = (
        dead_letters.c.id.label("letter_id"),
        _ASKING.c.reason,
        _ASKING.c.epoch,
        _ASKING.c.person.label("deactivated_external_id"),
        _ITS_ENROLMENT.c.pathway_id,
    )
    ids = func.array_agg(aggregate_order_by(_SIBLING.c.id, _SIBLING.c.id))
    statement = (
        select(*of_letter, ids.label("ids"))
        .select_from(dead_letters)
        .join(_ASKING, true())
        .join(_ITS_ENROLMENT, true())
        .join(_SIBLING, true())
        .where(among(dead_letters.c.id, letter_ids))
        .group_by(*of_letter)
        .order_by(dead_letters.c.id)
    )
    return [Siblings(**row) for row in connection.execute(statement).mappings()]


def count(connection: Connection, organisation_id: int, wanted: LetterFilter) -> int:
    """How many enrolments a cascade of all that match would withdraw beside those of the letters."""
    siblings = (
        select(_OTHER.c.id)
        .select_from(dead_letters)
        .join(enrolments, _IS_ITS_ENROLMENT)
        .join(_OTHER, _is_sibling(enrolments))
        .where(*matching_open(organisation_id, wanted, [LetterCode.PATHWAY_OWNED]))
    )
    have_a_letter = select(dead_letters.c.enrolment_id).where(
        dead_letters.c.organisation_id == organisation_id,
        one_of(dead_letters.c.state, [LetterState.OPEN]),
        one_of(dead_letters.c.code, [LetterCode.PATHWAY_OWNED]),
    )
    # Each is counted once. By NOT EXISTS each was held against all letters, until there were statistics of them.
    found = siblings.except_(have_a_letter).subquery("found")
    return connection.scalar(select(func.count()).select_from(found)) or 0
