"""What attempts at letters would do now, before anything is written: outcomes and learners."""

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
from sqlalchemy.sql.selectable import LateralFromClause

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
    persons,
    roster_lines,
    rosters,
)

SAMPLES = 5
"""Letters shown for each outcome."""

APART = literal_column("0", Integer)
"""As the OFFSET of a select: its rows are looked up by their key for each letter. A join could read all of them."""
_IS_OPEN = one_of(dead_letters.c.state, [LetterState.OPEN])
PATHWAY_SEEN = cast(dead_letters.c.evidence["pathway_id"].astext, BigInteger)
"""The pathway that a letter saw."""


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


def of_roster(job_id: ColumnElement[int] | ColumnElement[int | None]) -> LateralFromClause:
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
    gone = of_roster(dead_letters.c.job_id)
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
            PATHWAY_SEEN.label("override_pathway"),
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
        .offset(APART)
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
