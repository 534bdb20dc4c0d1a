"""What a cascade of letters withdraws as well: the learner's other active enrolments in the pathway."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, exists, func, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by

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


_ITS_ENROLMENT = (
    select(enrolments.c.id, enrolments.c.organisation_id, enrolments.c.learner_id, enrolments.c.pathway_id)
    .where(
        enrolments.c.id == dead_letters.c.enrolment_id, enrolments.c.organisation_id == dead_letters.c.organisation_id
    )
    .correlate(dead_letters)
    .offset(APART)
    .lateral("its_enrolment")
)
_SIBLING = (
    select(enrolments.c.id)
    .where(
        enrolments.c.learner_id == _ITS_ENROLMENT.c.learner_id,
        enrolments.c.organisation_id == _ITS_ENROLMENT.c.organisation_id,
        enrolments.c.pathway_id == _ITS_ENROLMENT.c.pathway_id,
        enrolments.c.id != _ITS_ENROLMENT.c.id,
        # The pathway that the letter saw, and no other that has taken the enrolment over since.
        enrolments.c.pathway_id == func.coalesce(PATHWAY_SEEN, enrolments.c.pathway_id),
        one_of(enrolments.c.status, ACTIVE),
    )
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
    every = dead_letters.alias("every")
    own = (
        select(every.c.organisation_id, every.c.state, every.c.code)
        .where(every.c.enrolment_id == _SIBLING.c.id)
        .correlate(_SIBLING)
        .offset(APART)
        .subquery("own")
    )
    has_a_letter = exists().where(
        own.c.organisation_id == dead_letters.c.organisation_id,
        one_of(own.c.state, [LetterState.OPEN]),
        one_of(own.c.code, [LetterCode.PATHWAY_OWNED]),
    )
    statement = (
        select(func.count(_SIBLING.c.id.distinct()))
        .select_from(dead_letters)
        .join(_ITS_ENROLMENT, true())
        .join(_SIBLING, true())
        .where(*matching_open(organisation_id, wanted, [LetterCode.PATHWAY_OWNED]), ~has_a_letter)
    )
    return connection.scalar(statement) or 0
