"""What attempts at letters would do now, before anything is written: outcomes, learners, and a cascade's siblings."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import FromClause, LateralFromClause

from schemas.catalogue import LetterCode, LetterState, Outcome
from schemas.dead_letters import LetterAct, LetterFilter
from worker.ledger.decide import RULES
from worker.ledger.fragments import among, one_of
from worker.ledger.letter_filter import conditions
from worker.models import (
    dead_letters,
    enrolments,
    jobs,
    learners,
    letter_chunks,
    outcomes,
    persons,
    roster_lines,
    rosters,
)
from worker.rules import ACTIVE, NEEDS_SUPPORT

SAMPLES = 5
"""Letters shown for each outcome."""

_APART = literal_column("0", Integer)
"""As the OFFSET of a select: its rows are looked up by their key for each letter. A join could read all of them."""
_IS_OPEN = one_of(dead_letters.c.state, [LetterState.OPEN])
_PATHWAY_SEEN = cast(dead_letters.c.evidence["pathway_id"].astext, BigInteger)


@dataclass(frozen=True, slots=True)
class PreviewedOutcome:
    """How many letters an attempt would decide this way, and a few of their ids."""

    outcome: str
    letters: int
    sample: list[int]


def matching_open(organisation_id: int, wanted: LetterFilter, codes: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """The open letters that match and are of one of these codes (None: of any): what an act on all that match takes."""
    found = [*conditions(organisation_id, wanted), _IS_OPEN]
    if codes is not None:
        found.append(one_of(dead_letters.c.code, codes))
    return found


def _of_roster(job_id: ColumnElement[int] | ColumnElement[int | None]) -> LateralFromClause:
    """The person of a letter's enrolment, with the epoch at which the roster of this job has them as gone, if any."""
    enrolment, learner = enrolments.alias("its"), learners.alias("theirs")
    return (
        select(roster_lines.c.external_id, roster_lines.c.epoch)
        .select_from(rosters)
        .join(enrolment, enrolment.c.id == dead_letters.c.enrolment_id)
        .join(learner, learner.c.id == enrolment.c.learner_id)
        .join(
            roster_lines,
            and_(roster_lines.c.roster_id == rosters.c.id, roster_lines.c.external_id == learner.c.external_id),
        )
        .where(rosters.c.job_id == job_id)
        .correlate(dead_letters, jobs)
        .lateral("gone")
    )


def _verdicts(letters: Sequence[ColumnElement[bool]], *, override: bool, may_be_superseded: bool = True) -> CTE:
    """What an attempt at each of these letters would find now: its id, the outcome and the learner.

    `may_be_superseded`: by the job that opened the letter; else whatever the newer events of its person say.
    """
    # Superseded: the job was a deactivation, and the person has had a newer event since.
    superseded = (
        select(func.bool_and(and_(persons.c.epoch.is_not(None), jobs.c.epoch != persons.c.epoch)))
        .select_from(jobs)
        .outerjoin(
            persons,
            and_(
                persons.c.organisation_id == jobs.c.organisation_id,
                persons.c.external_id == func.coalesce(jobs.c.deactivated_external_id, jobs.c.learner_external_id),
            ),
        )
        .where(jobs.c.id == dead_letters.c.job_id, jobs.c.epoch.is_not(None))
        .scalar_subquery()
    )
    gone = _of_roster(dead_letters.c.job_id)
    is_back = (
        select(persons.c.epoch)
        .select_from(gone)
        .join(
            persons,
            and_(
                persons.c.organisation_id == dead_letters.c.organisation_id,
                persons.c.external_id == gone.c.external_id,
                persons.c.epoch != gone.c.epoch,
            ),
        )
        .exists()
    )
    # `a` and `e` are the names under which the rules know what was asked and the enrolment.
    a = (
        select(
            dead_letters.c.id,
            dead_letters.c.code,
            dead_letters.c.enrolment_id,
            dead_letters.c.learner_external_id,
            dead_letters.c.organisation_id,
            literal(override).label("override"),
            _PATHWAY_SEEN.label("override_pathway"),
            (or_(func.coalesce(superseded, False), is_back) if may_be_superseded else false()).label("superseded"),
            true().label("guarded"),
        )
        .where(*letters)
        .cte("a")
    )
    e = enrolments.alias("e")
    known = exists().where(
        learners.c.organisation_id == a.c.organisation_id, learners.c.external_id == a.c.learner_external_id
    )
    outcome = case(
        (a.c.code == LetterCode.INVALID_EVENT, "nothing_to_try"),
        (
            a.c.enrolment_id.is_(None),
            case((a.c.superseded, "superseded"), (known, "withdrawn"), else_="not_known"),
        ),
        else_=literal_column(RULES, Text),
    )
    return (
        select(
            a.c.id,
            a.c.code,
            outcome.label("outcome"),
            func.coalesce(cast(e.c.learner_id, Text), a.c.learner_external_id).label("learner"),
        )
        .select_from(a.outerjoin(e, and_(e.c.id == a.c.enrolment_id, e.c.organisation_id == a.c.organisation_id)))
        .cte("verdicts")
    )


def preview(
    connection: Connection,
    organisation_id: int,
    wanted: LetterFilter,
    *,
    override: bool,
    codes: Sequence[str] | None,
) -> list[PreviewedOutcome]:
    """What attempts at all open letters that match would find now, by outcome."""
    verdicts = _verdicts(matching_open(organisation_id, wanted, codes), override=override)
    ids = func.array_agg(aggregate_order_by(verdicts.c.id, verdicts.c.id), type_=ARRAY(BigInteger))
    statement = select(verdicts.c.outcome, func.count().label("letters"), ids[1:SAMPLES].label("sample")).group_by(
        verdicts.c.outcome
    )
    return [PreviewedOutcome(**row) for row in connection.execute(statement).mappings()]


@dataclass(frozen=True, slots=True)
class PreviewedRequest:
    """How many letters come from requests of one kind, and what an attempt at them would find now."""

    code: str
    fingerprint: str
    source: str | None
    reason: str | None
    """Of the job that opened them; both None: an event that could not be read."""
    outcome: str
    letters: int
    first_job_id: int | None
    last_job_id: int | None
    """The same where one job has opened all of them."""
    ids: list[int]
    """Of the letters, those with the lowest numbers, at the most `MOST_IDS`."""


MOST_IDS = 500
"""As many letters as a filter can name."""


def group_by_request(
    connection: Connection, organisation_id: int, wanted: LetterFilter, codes: Sequence[str] | None
) -> list[PreviewedRequest]:
    """All open letters that match by cause and by the requests that opened them, those with most letters first."""
    verdicts = _verdicts(matching_open(organisation_id, wanted, codes), override=False)
    its = (verdicts.c.code, dead_letters.c.fingerprint, jobs.c.source, jobs.c.reason, verdicts.c.outcome)
    count = func.count()
    ids = func.array_agg(aggregate_order_by(verdicts.c.id, verdicts.c.id), type_=ARRAY(BigInteger))
    statement = (
        select(*its, count.label("letters"), func.min(jobs.c.id), func.max(jobs.c.id), ids[1:MOST_IDS])
        .select_from(verdicts)
        .join(dead_letters, dead_letters.c.id == verdicts.c.id)
        .outerjoin(jobs, jobs.c.id == dead_letters.c.job_id)
        .group_by(*its)
        .order_by(count.desc(), *its)
    )
    return [PreviewedRequest(*row) for row in connection.execute(statement)]


def would_settle(organisation_id: int, wanted: LetterFilter, codes: Sequence[str] | None) -> Select[int]:
    """The ids of open letters that match and that an attempt would resolve now, without any that was given up."""
    verdicts = _verdicts(matching_open(organisation_id, wanted, codes), override=False)
    given_up = (
        select(letter_chunks.c.id)
        .where(letter_chunks.c.letter_id == verdicts.c.id, letter_chunks.c.state == "failed")
        .offset(_APART)
        .exists()
    )
    # What a protection that has ended kept back is decided anew, also if that opens a letter of another code.
    is_free = and_(verdicts.c.code == LetterCode.PROTECTED, verdicts.c.outcome != Outcome.PROTECTED)
    return select(verdicts.c.id).where(or_(one_of(verdicts.c.outcome, _SETTLED), is_free), ~given_up)


def any_would_settle(
    connection: Connection, organisation_id: int, wanted: LetterFilter, codes: Sequence[str] | None
) -> bool:
    """Whether there is such a letter."""
    return bool(connection.scalar(select(would_settle(organisation_id, wanted, codes).exists())))


_SETTLED = [Outcome.WITHDRAWN, Outcome.ALREADY_WITHDRAWN, Outcome.ENROLMENT_ENDED, Outcome.SUPERSEDED]


def count_learners(connection: Connection, organisation_id: int, letter_ids: Sequence[int], act: LetterAct) -> int:
    """How many learners attempts at these letters of an organisation would withdraw now.

    A cascade withdraws more than the letter is about, so that each of its learners counts. So does the learner of a
    superseded deactivation: another job may wait for the same letter.
    """
    letters = [among(dead_letters.c.id, letter_ids), dead_letters.c.organisation_id == organisation_id]
    override = act in (LetterAct.OVERRIDE, LetterAct.CASCADE)
    verdicts = _verdicts(letters, override=override, may_be_superseded=False)
    statement = select(func.count(verdicts.c.learner.distinct()))
    if act is not LetterAct.CASCADE:
        statement = statement.where(verdicts.c.outcome == Outcome.WITHDRAWN)
    return connection.scalar(statement) or 0


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
        _OTHER.c.pathway_id == func.coalesce(_PATHWAY_SEEN, _OTHER.c.pathway_id),
        one_of(_OTHER.c.status, ACTIVE),
    )


_ITS_ENROLMENT = (
    select(enrolments.c.id, enrolments.c.organisation_id, enrolments.c.learner_id, enrolments.c.pathway_id)
    .where(_IS_ITS_ENROLMENT)
    .correlate(dead_letters)
    .offset(_APART)
    .lateral("its_enrolment")
)
_SIBLING = (
    select(_OTHER.c.id)
    .where(_is_sibling(_ITS_ENROLMENT))
    .correlate(dead_letters, _ITS_ENROLMENT)
    .offset(_APART)
    .lateral("sibling")
)


_DEACTIVATED = func.coalesce(jobs.c.deactivated_external_id, jobs.c.learner_external_id)
_GONE = _of_roster(jobs.c.id)
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


def find_siblings(connection: Connection, letter_ids: Sequence[int]) -> list[Siblings]:
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


def count_siblings(connection: Connection, organisation_id: int, wanted: LetterFilter) -> int:
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
        _IS_OPEN,
        one_of(dead_letters.c.code, [LetterCode.PATHWAY_OWNED]),
    )
    # Each is counted once. By NOT EXISTS each was held against all letters, until there were statistics of them.
    found = siblings.except_(have_a_letter).subquery("found")
    return connection.scalar(select(func.count()).select_from(found)) or 0
